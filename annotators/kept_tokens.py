"""The tokens of a reply that its kept text is made of: what was cut has log-probs too, and they are not the text's."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flywheel.core.types import Generation
from flywheel.kinds import Reply

Span = tuple[int, int]
#: What bytes that are no whole character decode to.
_BROKEN = "\ufffd"
#: Tokens before a window's own that are decoded with them: what is put together or tidied up across tokens is shorter.
_CONTEXT = 8
#: Tokens in a row without a whole character after which they are none of one that is still to come.
_MOST_BROKEN = 16


def of_kept_text(generation: Generation, reply: Reply, tokenizer: Callable[[], Any]) -> Generation:
    """The generation with only those tokens and log-probs that the reply's kept text is made of.

    Where nothing was cut it is the generation itself. Where the tokens can't be told apart (an engine without a
    tokenizer, ids of another one) it has none, so that its mean log-prob is 0, as of texts that no model wrote.
    ``tokenizer`` gives the model's, or None; it is asked only where something was cut.
    """
    if not reply.cut:
        return generation
    chosen = _chosen(generation, reply.kept, tokenizer())
    return replace(
        generation,
        token_ids=tuple(generation.token_ids[i] for i in chosen),
        logprobs=tuple(generation.logprobs[i] for i in chosen),
    )


def _chosen(generation: Generation, kept: Sequence[Span], tokenizer: Any) -> list[int]:
    """Places of the tokens that reach into the kept spans of the raw reply."""
    if tokenizer is None or len(generation.token_ids) != len(generation.logprobs):
        return []
    edges = _edges(list(generation.token_ids), tokenizer)
    whole = tokenizer.decode(list(generation.token_ids), skip_special_tokens=True)
    if whole != generation.text:
        # Its server took the thoughts apart: they are where they were among the tokens.
        kept = _placed([generation.text[start:end] for start, end in kept], whole)
    return [
        index
        for index, (start, end) in enumerate(itertools.pairwise(edges))
        if any(start < last and first < end for first, last in kept)
    ]


def _edges(token_ids: list[int], tokenizer: Any) -> list[int]:
    """Where in the text each token ends, from 0 on: lengths of what the tokens up to it decode to.

    Characters that are not whole yet do not count; no token takes back what those before it gave.
    """
    # Marks that are left out have no text, and a window of them alone would have none to begin with.
    marks, beginning, edges = set(tokenizer.all_special_ids), _Beginning(tokenizer), [0]
    for token in token_ids:
        edges.append(edges[-1] if token in marks else max(edges[-1], beginning.add(token)))
    return edges


class _Beginning:
    """A text that grows token by token. Only the last tokens are decoded: all of them each time is quadratic."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._ids = tokenizer, list[int]()
        #: Places between two characters, those that the next window may begin at; it begins at the first.
        self._between = deque([0])
        #: Characters up to the last of these places: of the window, of the text, of the text to its last whole one.
        self._in_window = self._length = self._edge = 0

    def add(self, token: int) -> int:
        """Characters of the text with this token too, to the last whole one."""
        self._ids.append(token)
        count = len(self._ids)
        text = self._decoded(self._between[0], count)
        edge = self._edge_of(text)
        if not text.endswith(_BROKEN):
            self._move(count, text)
        elif count - self._between[-1] >= _MOST_BROKEN:
            # A character has four bytes at most: one of as many places is between two, whatever comes.
            for place in range(count - 4, count - 8, -1):
                before = self._decoded(self._between[0], place)
                if before + self._decoded(place, count) == text:
                    self._move(place, before)
                    break
        return edge

    def _edge_of(self, text: str) -> int:
        """The text's length to its last whole character, where its window decodes to ``text``."""
        whole = text.rstrip(_BROKEN)
        if not whole and self._between[0]:
            # The last whole character lies before the window.
            return self._edge
        return self._length - self._in_window + len(whole)

    def _move(self, place: int, text: str) -> None:
        """Go on from a place between two characters, up to which the window decodes to ``text``."""
        self._length, self._edge = self._length - self._in_window + len(text), self._edge_of(text)
        self._between.append(place)
        while self._between[1] <= place - _CONTEXT:
            self._between.popleft()
        self._in_window = len(self._decoded(self._between[0], place))

    def _decoded(self, start: int, stop: int) -> str:
        return str(self._tokenizer.decode(self._ids[start:stop], skip_special_tokens=True))


def _placed(parts: Sequence[str], whole: str) -> list[Span]:
    """Where these parts stand in the text, the last ones looked for first; none where one does not."""
    out: list[Span] = []
    end = len(whole)
    for part in reversed(parts):
        start = whole.rfind(part.strip(), 0, end)
        if start < 0:
            return []
        out.append((start, start + len(part.strip())))
        end = start
    return out

"""The tokens of a reply that its kept text is made of: what was cut has log-probs too, and they are not the text's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flywheel.core.types import Generation
from flywheel.kinds import Reply

Span = tuple[int, int]


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
    """Where in the text each token ends, from 0 on: lengths of what the tokens up to it decode to."""
    beginnings = [token_ids[:count] for count in range(len(token_ids) + 1)]
    return [len(text.rstrip("\ufffd")) for text in tokenizer.batch_decode(beginnings, skip_special_tokens=True)]


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

"""Text from outside as text alone: a model's own marks within it are broken up before they meet template and tokenizer.

A tokenizer reads ``<|im_end|>`` as the end of a turn and ``<|video_pad|>`` as a picture, whoever wrote it: in a
transcript about such models it would end the question, or ask for pictures that there are not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from flywheel.core.foreign import without_hidden

#: Marks that templates and servers count media by, or that end turns, whether or not the tokenizer declares them.
_COMMON = r"<\|[^<>|\s]{1,40}\|>|</?(?:image|video|audio|img|think|tool_call)>"
#: How tokens begin and end that a tokenizer declares beside its special ones; others are words, blanks or signs.
_OPENING, _CLOSING = "<[{(|\uff5c", ">]})|\uff5c"
#: Breaking up one mark makes another only where marks are made for it; then what is left of them goes.
_MOST_PASSES = 8


class Marks:
    """The marks of one model: those that its tokenizer and processor declare, and the common ones."""

    def __init__(self, declared: Iterable[str] = ()) -> None:
        longest_first = sorted(set(declared), key=lambda mark: (-len(mark), mark))
        self._pattern = re.compile("|".join([*map(re.escape, longest_first), _COMMON]), re.IGNORECASE)
        firsts = {"<", *(case for mark in longest_first for case in (mark[0], mark[0].lower(), mark[0].upper()))}
        #: Nearly no text has one of these, and the pattern takes its time.
        self._first = re.compile("[" + re.escape("".join(sorted(firsts))) + "]")

    @classmethod
    def of(cls, processor: Any) -> Marks:
        """The marks of a processor, or of a tokenizer alone."""
        return cls(_declared(processor))

    def plain(self, text: str) -> str:
        """The text without what nobody can see, and with a blank in each mark: ``<|im_end|>`` is ``< |im_end|>``."""
        if text.isascii() and text.replace("\n", " ").isprintable():
            return self._broken_up(text)
        text = self._broken_up(without_hidden(text))
        # Tokenizers that fold characters read a mark in wide letters too.
        folded = unicodedata.normalize("NFKC", text)
        return self._broken_up(folded) if self._pattern.search(folded) else text

    def _broken_up(self, text: str) -> str:
        if not self._first.search(text):
            return text
        for _ in range(_MOST_PASSES):
            if not self._pattern.search(text):
                return text
            text = self._pattern.sub(_with_blank, text)
        return self._pattern.sub(" ", text)


def _with_blank(mark: re.Match[str]) -> str:
    return f"{mark[0][0]} {mark[0][1:]}" if len(mark[0]) > 1 else " "


def _declared(processor: Any) -> set[str]:
    tokenizer = getattr(processor, "tokenizer", processor)
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {*map(str, getattr(tokenizer, "all_special_tokens", ())), *(t.content for t in added if t.special)}
    for name in ("image_token", "video_token", "audio_token"):
        special |= {token for token in (getattr(processor, name, None),) if isinstance(token, str)}
    return {token for token in special if not _is_words(token)} | {t.content for t in added if _is_bracketed(t.content)}


def _is_words(token: str) -> bool:
    """Whether a token is made of letters, digits and blanks alone, as ordinary text is."""
    return all(c.isalnum() or c.isspace() for c in token)


def _is_bracketed(token: str) -> bool:
    return len(token) > 2 and token[0] in _OPENING and token[-1] in _CLOSING

"""From a model's reply to the plain text that is kept."""

from __future__ import annotations

import unicodedata

#: Control, format, surrogate, private and unassigned characters: nobody sees them.
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn")


class Unusable(ValueError):
    """A text that can't be an annotation; the message is the reason that goes on record."""


class BrokenReply(Unusable):
    """A reply that does not have the form that was asked for."""


def parse_caption(text: str) -> str:
    """Fold white space and drop control characters. Raises Unusable where no words are left."""
    folded = " ".join(_visible(text).split())
    if not folded:
        raise Unusable("the model wrote nothing")
    if not any(c.isalnum() for c in folded):
        raise Unusable("the model wrote no words")
    return folded


def _visible(text: str) -> str:
    # Nearly all text is plain, and looking up each character's category is slow.
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE)

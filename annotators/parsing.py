"""From what an engine wrote to the text that is kept."""

from __future__ import annotations

import unicodedata


class Unusable(ValueError):
    """The text can't be an annotation; the message is the reason that goes on record."""


def parse_caption(text: str) -> str:
    """The text with white space folded and control characters gone. Raises Unusable where nothing is left."""
    # Nearly all text is plain, and looking at each character's category is slow.
    plain = text.isascii() and text.isprintable()
    visible = (
        text
        if plain
        else "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    )
    folded = " ".join(visible.split())
    if not folded:
        raise Unusable("the model wrote nothing")
    if not any(c.isalnum() for c in folded):
        raise Unusable("the model wrote no words")
    return folded

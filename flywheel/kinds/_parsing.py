"""From a model's reply to the plain text that is kept."""

from __future__ import annotations

from flywheel.core.foreign import without_hidden


class Unusable(ValueError):
    """A text that can't be an annotation; the message is the reason that goes on record.

    ``name`` is the kind of fault, by which it is counted.
    """

    name = "empty"


class BrokenReply(Unusable):
    """A reply that does not have the form that was asked for."""

    name = "schema"


def parse_caption(text: str) -> str:
    """Fold white space and leave out what nobody can see. Raises Unusable where no words are left."""
    folded = " ".join(without_hidden(text).split())
    if not folded:
        raise Unusable("the model wrote nothing")
    if not any(c.isalnum() for c in folded):
        raise Unusable("the model wrote no words")
    return folded

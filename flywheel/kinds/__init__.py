"""Kinds of text, one file each: how a reply of a kind is read, put into words and corrected.

A module ``flywheel/kinds/NAME.py`` adds a kind by its ``KIND``. Other packages add kinds through the entry-point
group ``flywheel.annotators.kinds``.
"""

from __future__ import annotations

from flywheel.core.errors import UserError
from flywheel.core.registry import Registry
from flywheel.kinds._cleaning import cleaned_structure, cleaned_words
from flywheel.kinds._kind import Clean, Kind, Payload
from flywheel.kinds._parsing import BrokenReply, Unusable, parse_caption
from flywheel.kinds._reply import Reply, read_as_it_is, read_reply

__all__ = [
    "BrokenReply",
    "Clean",
    "Kind",
    "Payload",
    "Reply",
    "Unusable",
    "cleaned_structure",
    "cleaned_words",
    "get",
    "names",
    "parse_caption",
    "read",
    "read_as_it_is",
]

_registry = Registry("flywheel.kinds", what="kind", group="flywheel.annotators.kinds", attribute="KIND")


def get(name: str) -> Kind:
    """The kind of this name. Raises UserError for an unknown, contested or broken one."""
    kind = _registry.fetch(name, Kind)
    if kind.name != name:
        raise UserError(f"kind '{name}': its plug-in calls it '{kind.name}'. Give both one name.")
    return kind


def names() -> list[str]:
    """Names of all kinds, other packages' included, sorted."""
    return _registry.names()


def read(kind: str, text: str, *, schema: str = "", duration_s: float = float("inf")) -> Reply:
    """Read a reply of the named kind into its text and payload.

    ``schema`` is the prompt's JSON schema as text (empty for none), ``duration_s`` the clip's length in seconds.
    Thoughts, talk, marks and formatting around the model's own words are cut (``Reply.cut`` names them). Raises
    Unusable where the reply holds no words, BrokenReply where it breaks its form, UserError for an unknown kind.
    """
    return read_reply(get(kind), text, schema=schema, duration_s=duration_s)

"""Kinds of files of timed text, one file each: which texts are of the kind, and what they hold.

A module ``flywheel/formats/timed_text/NAME.py`` adds a kind by its ``FORMAT``; other packages add kinds through the
entry-point group ``flywheel.formats.timed_text``. A file is what it holds, whatever its name ends in: people rename
them.
"""

from __future__ import annotations

from functools import cache

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.registry import Registry
from flywheel.core.types import Cue
from flywheel.formats.timed_text._cues import Timed, cues_of, timed
from flywheel.formats.timed_text._format import TimedTextFormat

__all__ = ["UNREAD", "Timed", "TimedTextFormat", "cues_of", "endings", "read_cues", "timed"]

_registry = Registry("flywheel.formats.timed_text", what="timed text", attribute="FORMAT", dashes=True)
#: Endings of subtitles that are pictures, frames or bytes of a device: they are named where they lie beside a video.
UNREAD = frozenset((".sub", ".idx", ".sup", ".stl", ".scc", ".mcc", ".cap", ".usf", ".mpl", ".pjs", ".rt", ".ssf"))
#: So much of a text tells its kind.
_HEAD_CHARS = 4096


@cache
def _formats() -> tuple[TimedTextFormat, ...]:
    formats: list[TimedTextFormat] = []
    for name in _registry.names():
        try:
            formats.append(_registry.fetch(name, TimedTextFormat))
        except UserError as error:
            # A broken plug-in must not keep people from reading a kind of ours.
            say(str(error))
    return tuple(sorted(formats, key=lambda form: form.order))


@cache
def endings() -> tuple[str, ...]:
    """Endings of all kinds, those first that are looked for first."""
    return tuple(dict.fromkeys(ending for form in _formats() for ending in form.endings))


def read_cues(text: str, *, rolling: bool = True) -> list[Cue]:
    """Cues of a text of any kind, in the order of time; none where it is of no kind.

    ``rolling`` captions, which show each line again above the next, give each line once. It takes time in proportion
    to the text, whatever the text holds.
    """
    # A mark can stand where two files were put together.
    text = text.replace("\ufeff", "").replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    head = text[:_HEAD_CHARS].lstrip()
    for form in _formats():
        if form.claims(head):
            return cues_of(form.read(text), rolling=rolling)
    return []

"""Rows that readers and writers of formats pass on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.foreign import hidden_character
from flywheel.core.types import Cue

#: Columns of a correction. Files of corrections need the first and may have the second; a row without a verdict is one
#: that nobody filled in.
REQUIRED = ("annotation_id", "verdict")
OPTIONAL = (
    *("text", "payload", "refiner", "reason", "seconds", "at", "clip_id", "uri", "round", "model_text"),
    # Beside each text that waits, for whoever fills the file in.
    *("start_s", "end_s", "split", "link", "verdicts"),
)
_TEXTS = ("text", "payload", "refiner", "reason")
#: Columns of a choice between two texts, which a row with the first of them is.
CHOICE_REQUIRED = ("first_id", "second_id", "chosen")
CHOICE_OPTIONAL = (
    *("id", "left", "refiner", "seconds", "at"),
    # Beside each pair, for whoever fills the file in.
    *("clip_id", "uri", "start_s", "end_s", "first_text", "second_text", "choices"),
)
_CHOICE_TEXTS = ("id", "chosen", "left", "refiner")


@dataclass(frozen=True, kw_only=True)
class ExportRow:
    """A clip with its text, as a dataset takes it.

    ``uri`` is the file, of which the clip is seconds ``start_s`` to ``end_s``. ``cues`` are in seconds from the
    clip's start, empty where the text has no times. ``source`` is human, model, or what came with the video.

    ``turns`` are questions with their answers, in order, for formats of conversations; where there are none, the text
    answers one question.

    ``video`` writes the clip alone into a path and returns its ending. It returns an empty text where the clip can't
    be written; the row is then left out. ``drop`` takes a row that can't be written out of the counts, with the reason.

    ``address`` is what a dataset on an object store calls the file; it is empty for one in a folder.
    """

    id: str
    uri: str
    start_s: float
    end_s: float
    fps: float
    split: str
    text: str
    source: str
    round: int
    annotation_id: str
    cues: tuple[Cue, ...]
    video: Callable[[Path], str]
    drop: Callable[[str], None] = lambda reason: None
    turns: tuple[tuple[str, str], ...] = ()
    address: str = ""

    @contextlib.contextmanager
    def border(self) -> Iterator[None]:
        """Leaves the row out where writing it fails for a reason of its own; formats write each row within it."""
        try:
            with one_item("can't be written"):
                yield
        except MediaError as error:
            self.drop(str(error))

    def place(self, out: Path) -> str:
        """The path of the file as seen from the dataset's folder ``out``: no dataset names places of this machine."""
        return self.address or os.path.relpath(self.uri, out)

    def about(self, out: Path) -> dict[str, Any]:
        """The row's facts, its video apart; ``uri`` is as seen from the dataset's folder ``out``."""
        return {
            "id": self.id,
            "text": self.text,
            "source": self.source,
            "round": self.round,
            "split": self.split,
            "uri": self.place(out),
            "start_s": self.start_s,
            "end_s": self.end_s,
        }


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """A text that waits for a person: its annotation and clip. ``cues`` as in :class:`ExportRow`.

    ``link`` opens it on the review page.
    """

    annotation_id: str
    uri: str
    text: str
    round: int
    start_s: float
    end_s: float
    fps: float
    cues: tuple[Cue, ...] = ()
    clip_id: str = ""
    split: str = ""
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class CorrectionRow:
    """A correction as it stands in a file, its form checked and nothing more.

    ``line`` counts from 1. ``problem`` says what is wrong with the form; ``values`` is then empty. ``note`` says with a
    file's first row what was guessed to read it.
    """

    line: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    note: str = ""


def checked_row(line: int, values: Mapping[str, Any]) -> CorrectionRow:
    """The row with these values, or with what is wrong with them."""
    problem = _problem(values, _form_of(values))
    return CorrectionRow(line=line, problem=problem) if problem else CorrectionRow(line=line, values=values)


@dataclass(frozen=True)
class _Form:
    """The columns of a kind of row: those known, those that name texts on record, and those that hold text."""

    known: tuple[str, ...]
    ids: tuple[str, ...]
    texts: tuple[str, ...]


_CORRECTION = _Form((*REQUIRED, *OPTIONAL), REQUIRED[:1], ("verdict", *_TEXTS))
_CHOICE = _Form((*CHOICE_REQUIRED, *CHOICE_OPTIONAL), CHOICE_REQUIRED[:2], _CHOICE_TEXTS)


def _form_of(values: Mapping[str, Any]) -> _Form:
    return _CHOICE if CHOICE_REQUIRED[0] in values else _CORRECTION


def known_columns(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that a row of this kind may have: a choice between two texts, or a correction of one."""
    return _form_of(values).known


def is_choice(row: CorrectionRow) -> bool:
    """Whether a row is a choice between two texts and no correction of one."""
    return _form_of(row.values) is _CHOICE


def _problem(values: Mapping[str, Any], form: _Form) -> str:
    if unknown := sorted(set(values) - set(form.known)):
        return f"unknown column '{unknown[0]}'. Known: {', '.join(form.known)}"
    for name in form.ids:
        if not isinstance(values.get(name), str) or not values[name]:
            return f"needs '{name}'"
        if hidden_character(values[name]):
            # Some databases take no such text, and no id has it.
            return f"'{name}' holds what nobody can see"
    for name in form.texts:
        text = values.get(name)
        if text is None:
            continue
        if not isinstance(text, str):
            return f"'{name}' must be text, got {type(text).__name__}"
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return f"'{name}' holds a lone surrogate, which is no valid text"
    return ""

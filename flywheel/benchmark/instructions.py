"""Conversations about rendered videos, to train on: questions with answers that truth gives, and what a part holds.

They are for other videos than a benchmark's: a video of which a benchmark asks is left out, by its content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.benchmark.building import clock, named_sound, named_thing, questions
from flywheel.benchmark.items import LETTERS
from flywheel.benchmark.videos import ENDINGS
from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.formats import export as formats
from flywheel.formats.rows import ExportRow
from flywheel.media.encode import write_clip
from flywheel.media.probe import file_hash, probe
from flywheel.playground.timeline import LongVideo, read_timelines

Turns = tuple[tuple[str, str], ...]

#: Shots that a time-conditioned caption is of, at most, and captions a video.
_MOST_SHOTS, _CAPTIONS = 3, 2
_SALT = 58_000


@dataclass(frozen=True, kw_only=True)
class InstructionsResult:
    """What was written: conversations and their turns, and videos left out by reason."""

    out: str
    format: str
    conversations: int
    turns: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def conversations(video: LongVideo, rows: Sequence[Mapping[str, Any]], seed: int) -> Turns:
    """The turns about a video: its questions (rows of the format ``flywheel``) answered in words, then what is seen and
    heard in parts of it, and in the shot after each."""
    rng = np.random.default_rng([seed, video.seed, _SALT])
    turns = [(str(row["question"]), _sentence(row["options"][LETTERS.index(row["answer"])])) for row in rows]
    shots = video.shots
    for _ in range(_CAPTIONS):
        # A shot is left behind the part, for the turn after it.
        count = int(rng.integers(1, min(_MOST_SHOTS, len(shots) - 1) + 1))
        first = int(rng.integers(len(shots) - count))
        start_s, end_s = shots[first].start_s, shots[first + count - 1].end_s
        asked = f"Describe what is seen and heard from {clock(start_s)} to {clock(end_s)}."
        turns.append((asked, " ".join(_told(video, n) for n in range(first, first + count))))
        turns.append(("And in the shot after that?", _told(video, first + count)))
    return tuple(turns)


def _told(video: LongVideo, number: int) -> str:
    shot = video.shots[number]
    what = f"we see {named_thing(shot.seen)}, and hear {named_sound(shot.heard)}"
    return f"From {clock(shot.start_s)} to {clock(shot.end_s)} {what}."


def _sentence(option: str) -> str:
    return f"{option[:1].upper()}{option[1:]}."


def write_instructions(
    folder: Path, out: Path, *, format: str, seed: int = 0, held_out: Path | None = None
) -> InstructionsResult:
    """Write conversations about a folder's videos as a dataset, in a format of conversations, into a new folder.

    Videos that ``held_out``, a benchmark's folder of videos, holds too are left out, by their content. What is stopped
    leaves no folder. Raises UserError for a folder that holds no timelines, for a format without conversations, for an
    ``out`` that is there, for a ``held_out`` without a video, and where no video is left.
    """
    chosen = formats.get(format)
    if not chosen.turns:
        with_turns = ", ".join(name for name in formats.names() if formats.get(name).turns)
        raise UserError(f"--format {format}: holds no conversations. There are {with_turns}.")
    if out.exists():
        raise UserError(f"--out {out}: is there already. Name a new folder.")
    unseen = set() if held_out is None else hashes_of(held_out)
    videos = read_timelines(folder)
    asked = defaultdict[str, list[dict[str, Any]]](list)
    for row in questions(videos, seed):
        asked[row["video"]].append(row)
    written = _Written()
    with written_whole(out) as part:
        part.mkdir(parents=True)
        chosen.write(written.rows(_rows(folder, videos, asked, seed, unseen, written)), part)
        if not written.conversations:
            why = next(iter(written.left_out), "there are none")
            raise UserError(f"{folder}: no video is left to ask about ({why}).")
    return InstructionsResult(
        out=str(out),
        format=format,
        conversations=written.conversations,
        turns=written.turns,
        left_out=dict(written.left_out),
    )


def hashes_of(held_out: Path) -> set[str]:
    """The hashes of a folder's videos. Raises UserError where there is no such folder, and where it holds none."""
    if not held_out.is_dir():
        raise UserError(f"--held-out {held_out}: there is no such folder.")
    videos = [path for path in sorted(held_out.rglob("*")) if path.suffix.lower() in ENDINGS and path.is_file()]
    if not videos:
        raise UserError(f"--held-out {held_out}: holds no video, so that nothing would be left out.")
    return {file_hash(path) for path in videos}


class _Written:
    """Counts of rows on their way."""

    def __init__(self) -> None:
        self.conversations = self.turns = 0
        self.left_out: dict[str, int] = {}

    def rows(self, rows: Iterator[ExportRow]) -> Iterator[ExportRow]:
        for row in rows:
            self.conversations += 1
            self.turns += len(row.turns)
            yield row

    def leave(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def drop(self, turns: int, reason: str) -> None:
        """Take a conversation that can't be written out of the counts."""
        self.conversations -= 1
        self.turns -= turns
        self.leave(reason)


def _rows(
    folder: Path,
    videos: Sequence[LongVideo],
    asked: Mapping[str, Sequence[Mapping[str, Any]]],
    seed: int,
    unseen: set[str],
    written: _Written,
) -> Iterator[ExportRow]:
    for video in videos:
        file = folder / "videos" / f"{video.name}.mp4"
        if not file.is_file():
            written.leave("its file is not there")
        elif unseen and file_hash(file) in unseen:
            written.leave("a benchmark asks about it")
        else:
            yield _row(video, file, conversations(video, asked[file.name], seed), written)


def _row(video: LongVideo, file: Path, turns: Turns, written: _Written) -> ExportRow:
    info = probe(file)
    return ExportRow(
        id=video.name,
        uri=str(file.resolve()),
        start_s=0.0,
        end_s=info.duration_s,
        fps=info.fps,
        split="train",
        text=" ".join(answer for _, answer in turns),
        source="timeline",
        round=0,
        annotation_id="",
        cues=(),
        video=partial(write_clip, file, 0.0, info.duration_s),
        drop=partial(written.drop, len(turns)),
        turns=turns,
    )

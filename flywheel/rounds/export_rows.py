"""Rows of a dataset: which text each clip is exported with, one clip at a time."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from flywheel import kinds
from flywheel.core.border import is_our_mistake, one_item, reason_of
from flywheel.core.config import Config
from flywheel.core.errors import MediaError
from flywheel.core.progress import say
from flywheel.core.reading import Reading
from flywheel.core.types import CAPTION, LEARN, MEASURE, Annotation, Cue
from flywheel.formats.export import QUESTION
from flywheel.formats.rows import ExportRow
from flywheel.media.encode import write_clip
from flywheel.rounds.export_clips import ExportClips
from flywheel.rounds.questions_taught import QuestionsTaught
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import View
from flywheel.store.caption_index import TextsByClip

#: Columns of a clip that its row holds.
_CLIP = ("id", "uri", "start_s", "end_s", "fps", "split")
#: Files that can't be read and are named; the others are counted.
_NAMED = 10
Turns = tuple[tuple[str, str], ...]

#: Why a clip is left out that this program fails on.
_MISTAKE = "that flywheel itself failed on"
#: Clips whose captions are looked up together.
_AT_A_TIME = 16_384


@dataclass(kw_only=True)
class ExportCounts:
    """Counts that grow while rows are written; ``hours`` are of the clips that are kept."""

    sources: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    hours: float = 0.0

    @property
    def clips(self) -> int:
        return sum(self.sources.values())

    def keep(self, source: str, duration_s: float) -> None:
        """Count a clip that is handed to the writer."""
        self.sources[source] += 1
        self.hours += duration_s / 3600

    def drop(self, source: str, duration_s: float, reason: str) -> None:
        """Take back a clip that was kept and can't be written."""
        self.sources[source] -= 1
        self.hours -= duration_s / 3600
        self.left_out[reason] += 1


class ExportFiles:
    """Says which files can't be read, and stops where most can't: then a disk is away, and no dataset is written.

    Clips that this program's own mistakes keep out are told apart: their files are as good as any.
    """

    def __init__(self, most_unreadable: float) -> None:
        self._reading, self._named = Reading("export", most_unreadable), 0
        advice = "This is a mistake in flywheel and not in the videos. Please report it with this line."
        self._mistakes = Reading("export", most_unreadable, failure="made flywheel fail", advice=advice)

    def good(self) -> None:
        """Count one that is there."""
        self._reading.good()
        self._mistakes.good()

    def failed(self, uri: str, error: MediaError, reason: str, *, counted: bool = False) -> str:
        """Count one whose clip is left out; returns ``reason``, or that the mistake is ours.

        ``counted`` is one that was there when its row was made. Raises Unreadable for too many.
        """
        if not is_our_mistake(error):
            self.bad(uri, str(error))
            return reason
        why = reason_of(error.__cause__ or error)
        if self._mistakes.failed < _NAMED:
            say(f"export: {uri}: {why}; its clip is left out, by a mistake in flywheel. Please report it")
        self._mistakes.bad(uri, why, counted=counted)
        self._mistakes.check()
        return _MISTAKE

    def bad(self, uri: str, why: str) -> None:
        """Count one whose clip is left out. Raises Unreadable where these are too many."""
        self._named += 1
        if self._named <= _NAMED:
            say(f"export: {uri}: {why}; its clip is left out{', …' if self._named == _NAMED else ''}")
        self._reading.bad(uri, why)
        self._reading.check()

    def end(self) -> None:
        """Raises Unreadable where most could not be read."""
        self._mistakes.check(ended=True)
        self._reading.check(ended=True)


@dataclass(frozen=True, kw_only=True)
class _Text:
    """The text that a clip is exported with."""

    text: str
    source: str
    round: int
    annotation_id: str


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Texts of some clips by clip id: captions by round, the preferred first, what was measured, timed texts, and
    questions with their answers."""

    captions: Sequence[Mapping[str, Annotation]]
    measured: Mapping[str, Annotation]
    timed: Mapping[str, Annotation]
    turns: Mapping[str, Turns]


class DatasetRows:
    """Rows of a dataset in the order of clip ids, made one at a time; counts what is kept and what is left out.

    Iterating raises Unreadable where most files can't be read.
    """

    def __init__(
        self,
        view: View,
        config: Config,
        round: int,
        splits: tuple[str, ...],
        counts: ExportCounts,
        *,
        with_cues: bool,
        with_turns: bool = False,
    ) -> None:
        self._round, self._counts, self._originals = round, counts, view.originals
        self._files = ExportFiles(config.corpus.most_unreadable)
        removed = view.removed_videos(round)
        self._texts = CurrentTexts(view, removed=removed)
        newest = max(self._texts.rounds, default=0)
        choice = self._texts.choose(newest, config.gate.min_anchors, config.pretrain.texts)
        best = choice.round
        #: Rounds whose captions are used, the preferred first.
        self._rounds = tuple(dict.fromkeys([best, *range(newest, -1, -1)]))
        self._clips = ExportClips(view, round, splits, removed, counts)
        #: What the round's model wrote of test clips, and the newest timed text of each clip, where they are asked for.
        self._measured = TextsByClip(view, [(round, CAPTION, MEASURE)] if "test" in splits else [])
        self._timed = TextsByClip(view, _timed(view) if with_cues else [])
        #: What the dataset calls a file where it lies on an object store; None where it names places as it sees them.
        self.address: Callable[[str], str] | None = None
        #: Questions that rounds learn to answer, where the format holds conversations.
        self._questions = QuestionsTaught(view, self._texts, choice, config.pretrain) if with_turns else None

    def __iter__(self) -> Iterator[ExportRow]:
        for part in self._clips.slices(_AT_A_TIME):
            ids = part["id"].to_list()
            texts = _Texts(
                captions=self._captions(ids),
                measured=self._measured.of(part.filter(split="test")["id"].to_list()),
                timed=self._timed.of(ids),
                turns=self._turns(part.filter(split="train")["id"].to_list()),
            )
            self._originals.expect(part["content_hash"])
            yield from self._rows(part, texts)
        self._files.end()

    def _turns(self, clip_ids: Sequence[str]) -> Mapping[str, Turns]:
        """What these train clips are asked; of other splits nothing that could be learned is given away."""
        return self._questions.turns(clip_ids) if self._questions is not None else {}

    def _captions(self, clip_ids: Sequence[str]) -> list[Mapping[str, Annotation]]:
        """These clips' captions by round, the preferred round's first; of the others those of clips without one."""
        captions: list[Mapping[str, Annotation]] = []
        missing = clip_ids
        for round in self._rounds:
            captions.append(self._texts.of(round, missing))
            missing = [clip_id for clip_id in missing if clip_id not in captions[-1]]
        return captions

    def _rows(self, clips: pl.DataFrame, texts: _Texts) -> Iterator[ExportRow]:
        """Rows of some clips, whose texts these are."""
        for clip in clips.iter_rows(named=True):
            try:
                with one_item():
                    row = self._row_of(clip, texts)
            except MediaError as error:
                row = self._files.failed(clip["uri"], error, "whose text can't be read")
            if isinstance(row, str):
                self._counts.left_out[row] += 1
                continue
            self._files.good()
            self._counts.keep(row.source, clip["end_s"] - clip["start_s"])
            yield row

    def _row_of(self, clip: dict[str, Any], texts: _Texts) -> ExportRow | str:
        """A clip's row, or why it is left out."""
        text = self._text(clip, texts)
        if isinstance(text, str):
            return text
        problem = self._changed(clip)
        if not os.path.isfile(clip["uri"]):
            self._files.bad(clip["uri"], "is gone")
            return "whose file is gone"
        if problem is not None:
            self._files.bad(clip["uri"], str(problem))
            return "whose file holds another video now"
        turns = texts.turns.get(clip["id"], ())
        row = self._row(clip, text, self._cues(texts.timed.get(clip["id"])))
        return replace(row, turns=((QUESTION, text.text), *turns)) if turns else row

    def _changed(self, clip: dict[str, Any]) -> MediaError | None:
        """What is wrong with the clip's file, where it is not the one that the clip was cut from."""
        try:
            self._originals.check(clip["uri"], clip["content_hash"])
        except MediaError as error:
            return error
        return None

    def _text(self, clip: dict[str, Any], texts: _Texts) -> _Text | str:
        """The clip's text, or the reason why there is none: people's words first, then the best model's."""
        human = self._texts.human.get(clip["id"])
        newest = next((of_round[clip["id"]] for of_round in texts.captions if clip["id"] in of_round), None)
        if clip["id"] in self._texts.gold:
            return "gold, which checks refiners"
        if human is not None and human.text is not None:
            return _Text(text=human.text, source="human", round=self._round, annotation_id=human.annotation_id)
        if human is not None and (newest is None or human.annotation_id == newest.id):
            return "whose text people rejected"
        if (measured := texts.measured.get(clip["id"])) is not None:
            return _Text(text=measured.text, source="model", round=self._round, annotation_id="")
        if newest is None:
            return "without a text"
        return _Text(text=newest.text, source=newest.source, round=newest.round, annotation_id=newest.id)

    def _row(self, clip: dict[str, Any], text: _Text, cues: tuple[Cue, ...]) -> ExportRow:
        video = ClipVideo(clip["uri"], (clip["start_s"], clip["end_s"]), text.source, self._counts, self._files)
        return ExportRow(
            **{name: clip[name] for name in _CLIP},
            text=text.text,
            source=text.source,
            round=text.round,
            annotation_id=text.annotation_id,
            cues=cues,
            video=video,
            drop=video.drop,
            address=self.address(clip["uri"]) if self.address is not None else "",
        )

    def _cues(self, timed: Annotation | None) -> tuple[Cue, ...]:
        if timed is None:
            return ()
        human = self._texts.judged_by_id.get(timed.id)
        if human is not None and human.text is None:
            # People rejected it: the model's times are as wrong as its words.
            return ()
        payload = (human.payload if human is not None else "") or timed.payload
        read = kinds.get(timed.kind).cues
        return read(json.loads(payload)) if read is not None and payload else ()


class ClipVideo:
    """Writes a row's clip. One broken file costs one clip, however often a format asks for it."""

    def __init__(
        self, uri: str, span_s: tuple[float, float], source: str, counts: ExportCounts, files: ExportFiles
    ) -> None:
        self._uri, self._span_s, self._source, self._counts, self._files = uri, span_s, source, counts, files
        self._broken = False

    def __call__(self, out: Path) -> str:
        if self._broken:
            return ""
        try:
            with one_item():
                return write_clip(Path(self._uri), *self._span_s, out)
        except MediaError as error:
            self._broken = True
            self._take_back(self._files.failed(self._uri, error, "whose video can't be read", counted=True))
            return ""

    def drop(self, problem: str) -> None:
        """Take a clip that a format can't hold out of the counts, once; the problem is said."""
        if not self._broken:
            say(f"export: {self._uri}: {problem}; its clip is left out")
            self._take_back("that can't be written in this format")

    def _take_back(self, reason: str) -> None:
        self._broken = True
        self._counts.drop(self._source, self._span_s[1] - self._span_s[0], reason)


def _timed(view: View) -> list[tuple[int, str, str]]:
    """Round, kind and purpose of texts with times, the newest last."""
    names = sorted(name for name in kinds.names() if kinds.get(name).cues is not None)
    return [(round, name, LEARN) for round in view.records.rounds("annotations") for name in names]

"""Datasets written from a champion's data: the text of each clip as it was when the champion came to the gate."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import polars as pl

from flywheel import kinds
from flywheel.core.errors import BorderError, MediaError, UserError
from flywheel.core.progress import say
from flywheel.core.types import LEARN, MEASURE, Annotation, Correction, Cue, standing
from flywheel.formats import export as formats
from flywheel.formats.card import Card, write_card
from flywheel.formats.rows import ExportRow
from flywheel.media.encode import write_clip
from flywheel.rounds.champion import unit
from flywheel.rounds.context import CLIPS_PER_LOOKUP, RoundContext
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import View, Workspace

_SPLITS = ("train", "test", "anchor")
#: Columns of a clip that its row needs.
_CLIP = ("id", "uri", "start_s", "end_s", "fps", "split")


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export wrote: clips in all, clips by the source of their text, and clips left out by reason."""

    round: int
    format: str
    clips: int
    sources: dict[str, int]
    left_out: dict[str, int]
    out: str


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


def export(
    context: RoundContext, out: Path, form: str, *, round: int | None = None, splits: tuple[str, ...] = ("train",)
) -> ExportResult:
    """Write a round's dataset (the champion's if left out) into a new folder.

    The folder appears whole or not at all; the same round gives the same bytes.
    Raises UserError for an unknown format, split or round, and for a folder that holds something already.
    """
    chosen = formats.get(form)
    if unknown := sorted(set(splits) - set(_SPLITS)):
        raise UserError(f"export: split '{unknown[0]}' is unknown. There are train, test and anchor.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: holds something already. Name a new folder with --out.")
    view, round = _frozen(context.workspace, round)
    counts = ExportCounts()
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        # A file and not a list: a dataset may have more clips than memory has room for.
        with tempfile.TemporaryFile("w+", dir=temporary.parent, encoding="utf-8") as ids:
            rows = _Rows(view, round, splits, counts, with_cues=chosen.cues)
            chosen.write(_noting(rows, ids), temporary)
            write_card(_card(context, view, round, form, counts), temporary, loading=chosen.loading)
            if out.exists():
                out.rmdir()
            # Recorded before it appears: when a clip must go, every dataset that holds it must be on record.
            ids.seek(0)
            context.workspace.add_export(out.resolve(), round, (line.rstrip("\n") for line in ids))
        temporary.replace(out)
    except OSError as error:
        raise BorderError(f"{out}: can't be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportResult(
        round=round,
        format=form,
        clips=counts.clips,
        sources=dict(counts.sources),
        left_out=dict(counts.left_out),
        out=str(out),
    )


def _frozen(workspace: Workspace, round: int | None) -> tuple[View, int]:
    """The round's data as it was at its gate, and the round. Round 0 has no gate: its data is today's."""
    chosen = workspace.champion() if round is None else round
    view: View = workspace.as_of(chosen) if chosen and workspace.frozen(chosen) is not None else workspace
    if round and view is workspace:
        raise UserError(f"export: round {round} never came to its gate, so there is no data of it as it was.")
    return view, chosen


def _noting(rows: Iterable[ExportRow], ids: IO[str]) -> Iterator[ExportRow]:
    """The rows, each one's id written down before a format gets it."""
    for row in rows:
        ids.write(row.id + "\n")
        yield row


@dataclass(frozen=True, kw_only=True)
class _Text:
    """The text that a clip is exported with."""

    text: str
    source: str
    round: int
    annotation_id: str


class _Rows:
    """Rows of a dataset in the order of clip ids, made one at a time; counts what is kept and what is left out."""

    def __init__(
        self, view: View, round: int, splits: tuple[str, ...], counts: ExportCounts, *, with_cues: bool
    ) -> None:
        self._round, self._counts = round, counts
        self._texts = CurrentTexts(view)
        newest = max(self._texts.rounds, default=0)
        config = view.config
        best = self._texts.choose(newest, config.gate.min_anchors, config.pretrain.texts).round
        #: Rounds whose captions are used, the preferred first.
        self._rounds = tuple(dict.fromkeys([best, *range(newest, -1, -1)]))
        self._clips = _clips(view, round, splits)
        self._corrected: dict[str, str] = {}
        if with_cues:
            self._clips, self._corrected = _with_cues(view, self._clips)

    def __iter__(self) -> Iterator[ExportRow]:
        for part in self._clips.iter_slices(CLIPS_PER_LOOKUP):
            captions = [self._texts.of(r, part["id"]) for r in self._rounds]
            yield from self._rows(part, captions)

    def _rows(self, clips: pl.DataFrame, captions: Sequence[Mapping[str, Annotation]]) -> Iterator[ExportRow]:
        """Rows of some clips; ``captions`` are theirs by round, the preferred round's first."""
        for clip in clips.iter_rows(named=True):
            text = self._text(clip, captions)
            if isinstance(text, str):
                self._counts.left_out[text] += 1
            elif not Path(clip["uri"]).is_file():
                self._counts.left_out["whose file is gone"] += 1
                say(f"export: {clip['uri']} is gone; its clip is left out")
            else:
                self._counts.keep(text.source, clip["end_s"] - clip["start_s"])
                yield self._row(clip, text)

    def _text(self, clip: dict[str, Any], captions: Sequence[Mapping[str, Annotation]]) -> _Text | str:
        """The clip's text, or the reason why there is none: people's words first, then the best model's."""
        human = self._texts.human.get(clip["id"])
        newest = next((of_round[clip["id"]] for of_round in captions if clip["id"] in of_round), None)
        if clip["id"] in self._texts.gold:
            return "gold, which checks refiners"
        if human is not None and human.text is not None:
            return _Text(text=human.text, source="human", round=self._round, annotation_id=human.annotation_id)
        if human is not None and (newest is None or human.annotation_id == newest.id):
            return "whose text people rejected"
        if clip["measured"] is not None:
            return _Text(text=clip["measured"], source="model", round=self._round, annotation_id="")
        if newest is None:
            return "without a text"
        return _Text(text=newest.text, source=newest.source, round=newest.round, annotation_id=newest.id)

    def _row(self, clip: dict[str, Any], text: _Text) -> ExportRow:
        return ExportRow(
            **{name: clip[name] for name in _CLIP},
            text=text.text,
            source=text.source,
            round=text.round,
            annotation_id=text.annotation_id,
            cues=self._cues(clip),
            video=_Video(Path(clip["uri"]), clip["start_s"], clip["end_s"], text.source, self._counts),
        )

    def _cues(self, clip: dict[str, Any]) -> tuple[Cue, ...]:
        if clip.get("timed_id") is None:
            return ()
        payload = self._corrected.get(clip["timed_id"]) or clip["payload"]
        read = kinds.get(clip["kind"]).cues
        return read(json.loads(payload)) if read is not None and payload else ()


class _Video:
    """Writes a row's clip. One broken file costs one clip, however often a format asks for it."""

    def __init__(self, uri: Path, start_s: float, end_s: float, source: str, counts: ExportCounts) -> None:
        self._uri, self._start_s, self._end_s, self._source, self._counts = uri, start_s, end_s, source, counts
        self._broken = False

    def __call__(self, out: Path) -> str:
        if self._broken:
            return ""
        try:
            return write_clip(self._uri, self._start_s, self._end_s, out)
        except MediaError as error:
            say(f"export: {self._uri}: {error}; its clip is left out")
            self._broken = True
            self._counts.drop(self._source, self._end_s - self._start_s, "whose video can't be read")
            return ""


def _clips(workspace: View, round: int, splits: tuple[str, ...]) -> pl.DataFrame:
    """Clips of these splits by id; ``measured`` is what the round's model wrote of a test clip.

    Columns and not objects: at a million clips these are a hundred megabytes and not gigabytes.
    """
    if not workspace.count("clips"):
        raise UserError(f"{workspace.root}: holds no clips. Take videos in with 'flywheel ingest FOLDER'.")
    clips = pl.concat(part.filter(pl.col("split").is_in(splits)) for part in workspace.clip_batches(_CLIP))
    measured = (
        workspace.texts(round, MEASURE, "clip_id", "text")
        .unique("clip_id", keep="last", maintain_order=True)
        .rename({"text": "measured"})
    )
    is_test = pl.col("split") == "test"
    return (
        clips.join(measured, left_on="id", right_on="clip_id", how="left")
        .with_columns(measured=pl.when(is_test).then("measured"))
        .sort("id")
    )


def _with_cues(workspace: View, clips: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """The clips with their newest timed text (``timed_id``, ``kind``, ``payload``), and people's payloads by id."""
    timed = [name for name in kinds.names() if kinds.get(name).cues is not None]
    texts = pl.concat([workspace.annotations(kind=name, purpose=LEARN) for name in timed])
    newest = (
        texts.sort("round", "kind")
        .unique("clip_id", keep="last", maintain_order=True)
        .select("clip_id", "kind", "payload", pl.col("id").alias("timed_id"))
    )
    joined = clips.join(newest, left_on="id", right_on="clip_id", how="left").sort("id")
    return joined, _corrected_payloads(workspace, set(newest["timed_id"]))


def _corrected_payloads(workspace: View, ids: set[str]) -> dict[str, str]:
    """Annotation id -> the newest payload that people gave it."""
    corrections: dict[str, list[Correction]] = {}
    for correction in workspace.correction_records() if ids else []:
        if correction.annotation_id in ids:
            corrections.setdefault(correction.annotation_id, []).append(correction)
    payloads = {}
    for annotation_id, of_text in corrections.items():
        given = [c.payload for c in standing(of_text).values() if c.payload]
        if given:
            payloads[annotation_id] = given[-1]
    return payloads


def _card(context: RoundContext, view: View, round: int, form: str, counts: ExportCounts) -> Card:
    workspace = context.workspace
    since = next((row["at"] for row in workspace.champions() if row["round"] == round), "")
    hashes = unit(context, round)
    refiners = view.corrections()["refiner"]
    return Card(
        name=workspace.root.name,
        form=form,
        round=round,
        champion_since=since,
        num_clips=counts.clips,
        hours=counts.hours,
        counts=dict(counts.sources),
        left_out=dict(counts.left_out),
        model={
            "base": context.config.main.folder,
            "weights": hashes["model"],
            "adapter": hashes["adapter"] or "none",
            **_prompts(workspace, round),
        },
        rounds=tuple(_figures(workspace, r) for r in workspace.rounds() if r <= round),
        licence=context.config.corpus.licence,
        num_refiners=refiners.n_unique(),
    )


def _prompts(workspace: Workspace, round: int) -> dict[str, str]:
    """The prompts of the rounds up to this one with their versions, as the rounds had them."""
    versions: dict[str, set[str]] = {}
    for earlier in workspace.rounds():
        if earlier <= round:
            for name, version in workspace.stage(earlier, "annotate")[1].get("prompts", {}).items():
                versions.setdefault(name, set()).add(version)
    return {f"prompt {name}": ", ".join(sorted(versions[name])) for name in sorted(versions)}


def _figures(workspace: Workspace, round: int) -> dict[str, Any]:
    """A round's row in the card's table."""
    measured, gate = workspace.stage(round, "evaluate")[1], workspace.stage(round, "gate")[1]
    quality = measured.get("quality", {})
    return {
        "round": "base" if round == 0 else round,
        "verdict": gate.get("verdict", ""),
        "anchor token F1": _figure(quality.get("anchor_token_f1")),
        "agreement": _figure(quality.get("agreement")),
        "distinct-3": _figure(measured.get("diversity", {}).get("distinct_3")),
    }


def _figure(estimate: Any) -> str:
    """A figure as the table has it, empty where it was not measured."""
    value = estimate.get("value") if isinstance(estimate, dict) else None
    return "" if value is None or value != value else f"{value:.3f}"

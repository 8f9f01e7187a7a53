"""The history of a clip: its texts, who wrote and corrected them, who learned from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.foreign import as_lines
from flywheel.store import Workspace

#: Spans of a file that are named where its name is of several clips.
_NAMED = 3
#: Columns of a clip's generation that 'show' gives: all but its tokens and their log-probs.
_GENERATION_COLUMNS = (
    "id",
    "clip_id",
    "prompt",
    "model",
    "adapter",
    "sampling",
    "candidate",
    "text",
    "tokens_in",
    "tokens_out",
    "seconds",
    "finish",
)
_USE_COLUMNS = ("round", "stage", "source", "use", "weight", "corrections")


@dataclass(frozen=True, kw_only=True)
class TextHistory:
    """A text, the generation that made it (None: it came with the video), its corrections, and who learned from it.

    All are rows of the records.
    """

    annotation: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    corrections: Sequence[Mapping[str, Any]]
    uses: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The text's row with the other fields beside its columns."""
        generation = None if self.generation is None else dict(self.generation)
        corrections, uses = [dict(row) for row in self.corrections], [dict(row) for row in self.uses]
        return {**self.annotation, "generation": generation, "corrections": corrections, "uses": uses}

    def lines(self) -> list[str]:
        """The text, its uses and corrections for the terminal."""
        text, made = self.annotation, self.generation
        writer = text["source"]
        if made is not None:
            writer = f"model {made['model']}" + (f" + adapter {made['adapter']}" if made["adapter"] else "")
        lines = [f"round {text['round']} {text['kind']} by {writer}: {text['text']}"]
        for use in self.uses:
            if use["use"] in ("learned", "preferred"):
                lines.append(f"  M{use['round']} {use['use']} it in {use['stage']}, weight {use['weight']:g}")
            else:
                lines.append(f"  not for M{use['round']}'s {use['stage']}: rejected")
        return lines + [f"  {c['verdict']} by {c['refiner']} at {c['at']}: {c['text']}" for c in self.corrections]


@dataclass(frozen=True, kw_only=True)
class ClipHistory:
    """All that is on record of one clip; ``gold`` is its right text, "" where it is not gold.

    ``tracks`` are the streams of its file, with the reason where one was left; empty where there was no choice.
    ``speech`` is what recognisers heard in it; people's words and those of files go before it.
    """

    clip: Mapping[str, Any]
    texts: Sequence[TextHistory]
    rejected: Sequence[Mapping[str, Any]]
    gold: str
    tracks: Sequence[Mapping[str, Any]] = ()
    speech: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        texts, rejected = [text.to_json() for text in self.texts], [dict(row) for row in self.rejected]
        tracks, speech = [dict(track) for track in self.tracks], [dict(row) for row in self.speech]
        beside = {"tracks": tracks, "speech": speech, "texts": texts, "rejected": rejected, "gold": self.gold}
        return {"clip": dict(self.clip), **beside}

    def __str__(self) -> str:
        clip = self.clip
        lines = [f"{clip['id']} {clip['uri']} {clip['start_s']:.2f} to {clip['end_s']:.2f} s, {clip['split']}"]
        lines += [_track_line(track) for track in self.tracks]
        lines += [f"speech by {row['source']}: {row['transcript'] or '(nobody speaks)'}" for row in self.speech]
        for text in self.texts:
            lines += text.lines()
        lines += [] if self.texts else ["no texts yet"]
        if self.gold:
            lines.append(f"gold: {self.gold}")
        lines += [f"round {r['round']} {r['stage']} rejected: {r['reason']}" for r in self.rejected]
        return as_lines(lines)


def history_of(workspace: Workspace, clip: str) -> ClipHistory:
    """The history of the clip whose id begins with ``clip``. Raises UserError where none or several do."""
    # Here: 'flywheel status' need not load what judges refiners.
    from human_refine.gold import gold_texts

    records = workspace.records
    clip_id = _clip_id(workspace, clip)
    ids = pl.col("clip_id") == clip_id
    made = records.read("generations", columns=_GENERATION_COLUMNS, where=ids)
    generations = {row["id"]: row for row in made.iter_rows(named=True)}
    corrections = _by_annotation(workspace.corrections().filter(ids))
    uses = _by_annotation(records.read("examples", columns=("annotation_id", *_USE_COLUMNS), where=ids))
    texts = [
        TextHistory(
            annotation=row,
            generation=generations.get(row["generation_id"]),
            corrections=corrections.get(row["id"], []),
            uses=[{name: use[name] for name in _USE_COLUMNS} for use in uses.get(row["id"], [])],
        )
        for row in records.read("annotations", where=ids).sort("round", "kind").to_dicts()
    ]
    return ClipHistory(
        clip=workspace.clips_by_id([clip_id]).to_dicts()[0],
        texts=texts,
        rejected=records.read("rejected", where=ids).to_dicts(),
        gold=gold_texts(workspace).get(clip_id, ""),
        speech=records.read("asr_transcripts", where=ids).to_dicts(),
        tracks=[track for told in records.read("tracks", where=ids)["tracks"] for track in json.loads(told)],
    )


def _track_line(track: Mapping[str, Any]) -> str:
    named = [track.get(name, "") for name in ("codec", "language", "title")]
    words = ", ".join([*(word for word in named if word), *track.get("flags", ())])
    left = f"; left: {track['left']}" if track.get("left") else ""
    return f"stream {track['index']}, {track['kind']}: {words}{left}"


def _clip_id(workspace: Workspace, name: str) -> str:
    """The clip whose id begins so, or whose file has this path or name. Raises UserError where not exactly one does."""
    ids = workspace.records.keys_from("clips", name)
    if len(ids) == 1:
        return ids[0]
    if not ids:
        found = workspace.clips_by_id(workspace.find_clips(name)["id"].to_list() or _named(workspace, name))
        if found.height == 1:
            return str(found["id"][0])
        if found.height > 1:
            spans = found.sort("start_s").head(_NAMED).select("id", "start_s", "end_s").iter_rows()
            first = ", ".join(f"{clip_id[:12]} ({start_s:.1f}-{end_s:.1f} s)" for clip_id, start_s, end_s in spans)
            raise UserError(f"show {name}: is the file of {found.height} clips. Give the id of one: {first}, …")
        raise UserError(f"show {name}: no clip matches. List them with 'flywheel clips', by words with --search.")
    raise UserError(f"show {name}: names {len(ids)} clips. Give more digits of the id; 'flywheel clips' lists them.")


def _named(workspace: Workspace, name: str) -> list[str]:
    return workspace.clips_named(name)["id"].to_list() if "/" not in name else []


def _by_annotation(rows: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The rows of each annotation, in their order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        groups.setdefault(row["annotation_id"], []).append(row)
    return groups

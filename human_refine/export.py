"""The queue as a file, for people who correct elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.types import LEARN, Clip
from flywheel.formats.label_studio import task
from flywheel.formats.subtitles import srt, webvtt
from flywheel.store import Workspace
from flywheel.store.corrections import corrected_ids
from flywheel.store.parts import clips_with_ids, in_parts, read_columns, shards_of
from human_refine.cleaning import cues_of
from human_refine.items import Item, items_with_ids
from human_refine.queue import waiting_captions

FORMATS = ("jsonl", "csv", "parquet", "label-studio", "webvtt", "srt")
#: Texts that are in memory at a time, of those that can be written piece by piece.
_AT_A_TIME = 50_000
_DENSE = (pl.col("kind") == "dense_caption") & (pl.col("purpose") == LEARN)


def export_queue(workspace: Workspace, out: Path, limit: int | None = None, form: str = "jsonl") -> int:
    """Writes the last round's uncorrected texts, in the queue's order, for people to fill in; returns how many.

    ``form`` is one of :data:`FORMATS`. WebVTT and SRT are a folder with a file for each dense caption. Label Studio's
    JSON holds dense captions where the round has them and captions where not. Raises UserError where there is nothing
    to write.
    """
    if form not in FORMATS:
        raise UserError(f"corrections export: format '{form}' is unknown. There are {', '.join(FORMATS)}.")
    if form in ("webvtt", "srt", "label-studio"):
        dense = _dense_captions(workspace, limit)
        if dense is None and form != "label-studio":
            raise UserError(
                "corrections export: no round has dense captions. "
                "Name them in annotate.also and run 'flywheel annotate'."
            )
        if dense is not None:
            return _write_cues(workspace, out, dense, form)
    ids = waiting_captions(workspace, limit)
    if form == "label-studio":
        return _write_tasks(workspace, out, ids)
    return _write_table(workspace, out, ids, form)


def _with_clips(workspace: Workspace, ids: Sequence[str]) -> Iterator[list[tuple[Item, Clip]]]:
    """The texts with these ids and their clips, in order, many at a time."""
    for start in range(0, len(ids), _AT_A_TIME):
        part = ids[start : start + _AT_A_TIME]
        items = items_with_ids(workspace, part)
        clips = clips_with_ids(workspace, {item.clip_id for item in items.values()})
        yield [(items[i], clips[items[i].clip_id]) for i in part if i in items]


def _write_table(workspace: Workspace, out: Path, ids: Sequence[str], form: str) -> int:
    count = 0
    frames = []
    with open(out, "wb") as file:
        for part in _with_clips(workspace, ids):
            rows = [_row(item, clip) for item, clip in part]
            if form == "jsonl":
                file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
            elif form == "csv":
                pl.DataFrame(rows).write_csv(file, include_header=count == 0)
            else:
                frames.append(pl.DataFrame(rows))
            count += len(rows)
        if frames:
            pl.concat(frames).write_parquet(file)
    return count


def _row(item: Item, clip: Clip) -> dict[str, str]:
    return {
        "annotation_id": item.annotation_id,
        "uri": clip.uri,
        "model_text": item.text,
        "verdict": "",
        "text": item.text,
        "refiner": "",
    }


def _write_tasks(workspace: Workspace, out: Path, ids: Sequence[str]) -> int:
    tasks = [_task(item, clip) for part in _with_clips(workspace, ids) for item, clip in part]
    out.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    return len(tasks)


def _task(item: Item, clip: Clip) -> dict[str, Any]:
    return task(
        annotation_id=item.annotation_id,
        video=clip.uri,
        text=item.text,
        cues=cues_of(item.payload),
        fps=clip.fps,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
        model=f"round {item.round}",
    )


def _dense_captions(workspace: Workspace, limit: int | None) -> list[str] | None:
    """Ids of the newest round's dense captions that nobody corrected, the least believed first.

    None where no round has any.
    """
    frames: list[pl.DataFrame] = []
    newest = -1
    # The newest round first: older ones need not be read where it has some.
    for part in in_parts(sorted(shards_of(workspace, "annotations"), key=lambda shard: -(shard.round or 0))):
        if frames and all((shard.round or 0) < newest for shard in part):
            break
        names = [shard.name for shard in part]
        frame = read_columns(workspace, "annotations", names, ["id", "round", "mean_logprob"], _DENSE)
        if frame.height:
            newest = max(newest, int(frame["round"].to_numpy().max()))
            frames.append(frame)
    if not frames:
        return None
    rows = pl.concat(frames).filter(pl.col("round") == newest).sort("mean_logprob", "id")
    corrected = corrected_ids(workspace)
    return [i for i in rows["id"] if i not in corrected][:limit]


def _write_cues(workspace: Workspace, out: Path, ids: Sequence[str], form: str) -> int:
    if form == "label-studio":
        return _write_tasks(workspace, out, ids)
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for start in range(0, len(ids), _AT_A_TIME):
        for item in items_with_ids(workspace, ids[start : start + _AT_A_TIME]).values():
            cues = cues_of(item.payload)
            content = webvtt(cues, note=f"annotation {item.annotation_id}") if form == "webvtt" else srt(cues)
            (out / f"{item.annotation_id}.{'vtt' if form == 'webvtt' else 'srt'}").write_text(content, encoding="utf-8")
            count += 1
    return count

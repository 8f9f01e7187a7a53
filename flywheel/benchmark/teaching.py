"""Conversations about rendered videos as texts of a workspace's clips, which rounds learn as they learn a model's."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from flywheel import kinds
from flywheel.benchmark.building import questions
from flywheel.benchmark.instructions import Turns, conversations, hashes_of
from flywheel.core.errors import UserError
from flywheel.core.types import LEARN, Annotation, content_id
from flywheel.media.probe import file_hash, probe
from flywheel.playground.timeline import read_timelines
from flywheel.store import Workspace

#: What the texts say of where they come from.
SOURCE = "timeline"
KIND = "qa"
#: Seconds by which a clip's end may differ from its video's.
_END_S = 0.01
#: Begins a reason in place of a clip's id.
_LEFT = "left out: "


@dataclass(frozen=True, kw_only=True)
class TaughtResult:
    """What was added: conversations and their turns, those that were there already, and videos left out by reason."""

    conversations: int
    turns: int
    known: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def teach(workspace: Workspace, folder: Path, *, seed: int = 0, held_out: Path | None = None) -> TaughtResult:
    """Add conversations about a folder's videos to the train clips that these videos are; the caller holds the lock.

    They are texts of kind ``qa`` of round 0, to learn from where ``pretrain.kinds`` names it. A video's clip is found
    by its content. Left out, each with its reason: videos that are no clip or several clips, clips of the test split
    and anchors, and what ``held_out``, a benchmark's folder of videos, holds too. The same call again adds nothing.

    Raises UserError for a folder that holds no timelines, for a ``held_out`` without a video, and where no video is
    left.
    """
    unseen = set() if held_out is None else hashes_of(held_out)
    videos = read_timelines(folder)
    asked = defaultdict[str, list[dict[str, Any]]](list)
    for row in questions(videos, seed):
        asked[row["video"]].append(row)
    left_out = Counter[str]()
    texts: list[tuple[Annotation, int]] = []
    for video in videos:
        file = folder / "videos" / f"{video.name}.mp4"
        clip_id = _clip(workspace, file, unseen)
        if clip_id.startswith(_LEFT):
            left_out[clip_id.removeprefix(_LEFT)] += 1
            continue
        turns = conversations(video, asked[file.name], seed)
        texts.append((_text(clip_id, turns, seed), len(turns)))
    if not texts:
        why = next(iter(left_out), "there are none")
        raise UserError(f"{folder}: no video can be asked about ({why}).")
    known = workspace.records.known("annotations", [text.id for text, _ in texts])
    new = [(text, count) for text, count in texts if text.id not in known]
    workspace.add_annotations([text for text, _ in new], round=0)
    return TaughtResult(
        conversations=len(new), turns=sum(count for _, count in new), known=len(known), left_out=dict(left_out)
    )


def _clip(workspace: Workspace, file: Path, unseen: set[str]) -> str:
    """The id of the train clip that a video is, or :data:`_LEFT` with the reason why there is none."""
    if not file.is_file():
        return f"{_LEFT}its file is not there"
    content_hash = file_hash(file)
    if content_hash in unseen:
        return f"{_LEFT}a benchmark asks about it"
    columns = ["id", "split", "start_s", "end_s"]
    clips = workspace.records.read("clips", columns=columns, where=pl.col("content_hash") == content_hash)
    if clips.is_empty():
        return f"{_LEFT}it is no clip of this workspace"
    whole = clips.filter((pl.col("start_s") <= 0.0) & (pl.col("end_s") >= probe(file).duration_s - _END_S))
    if whole.is_empty():
        return f"{_LEFT}its clips are parts of it (corpus.split_by)"
    clip_id, split = whole.select("id", "split").row(0)
    return str(clip_id) if split == "train" else f"{_LEFT}its clip is of the {split} split"


def _text(clip_id: str, turns: Turns, seed: int) -> Annotation:
    payload = {"pairs": [{"question": question, "answer": answer} for question, answer in turns]}
    return Annotation(
        id=content_id(0, KIND, clip_id, SOURCE, seed),
        round=0,
        kind=KIND,
        clip_id=clip_id,
        generation_id="",
        source=SOURCE,
        text=kinds.get(KIND).words(payload),
        mean_logprob=0.0,
        payload=json.dumps(payload, ensure_ascii=False),
        purpose=LEARN,
    )

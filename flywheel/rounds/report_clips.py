"""Clips that a report shows: furthest from people's captions, most changed, and the same ones in every report."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import MediaError
from flywheel.core.types import CAPTION, MEASURE, Clip, RoundReport, corrected, standing
from flywheel.media.frames import thumbnail
from flywheel.metrics import token_f1
from flywheel.rounds.context import RoundContext
from flywheel.rounds.differences import Part, parts
from flywheel.store import Workspace
from flywheel.store.corrections import corrected_clips, words_on_clips
from flywheel.store.people import excluded_names, names_with_role
from flywheel.store.view import annotation_of

_NUM_CLIPS, _NUM_RANKED = 12, 4
#: Clips whose texts are compared, to find the worst and the most changed.
_MOST_COMPARED = 2000


@dataclass(frozen=True, kw_only=True)
class TextView:
    """A text with its writer, as parts of what is the same, added and gone since the text before it."""

    name: str
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True)
class ClipView:
    """A clip as the page shows it: ``picture`` is JPEG as base64, empty where ``error`` says why there is none.

    ``file`` is the address of the video's span for a browser on this machine, empty where the file is not here.
    """

    clip: Clip
    picture: str
    error: str
    file: str
    texts: Sequence[TextView]


@dataclass(frozen=True, kw_only=True)
class ClipGroup:
    """Clips that are shown together, and why these."""

    title: str
    clips: Sequence[ClipView]


def clip_groups(context: RoundContext, reports: Sequence[RoundReport]) -> list[ClipGroup]:
    """Twelve clips: at most four furthest from people's captions, four most changed, the others as in every report."""
    chosen: dict[str, list[str]] = {}
    now = reports[-1].round
    chosen["Furthest from people's captions (anchor clips)"] = _worst(context, now)
    if len(reports) > 1:
        title = f"Most changed since {'the base model' if reports[-2].round == 0 else f'round {reports[-2].round}'}"
        chosen[title] = _most_changed(context, now, reports[-2].round)
    seen: set[str] = set()
    for title, ids in chosen.items():
        chosen[title] = [i for i in ids if i in context.clips and i not in seen][:_NUM_RANKED]
        seen |= set(chosen[title])
    test, others = context.split("test").by_id(), context.split("train", "anchor").by_id()
    usual = [clip.id for clip in [*test[:_NUM_CLIPS], *others[:_NUM_CLIPS]] if clip.id not in seen]
    chosen["The same clips in every report"] = usual[: _NUM_CLIPS - len(seen)]
    texts = context.workspace.records.of_clips("annotations", [i for ids in chosen.values() for i in ids])
    people = _peoples(context.workspace, texts)
    return [
        ClipGroup(title=title, clips=[_view(context, context.clips[i], texts, people.get(i)) for i in ids])
        for title, ids in chosen.items()
        if ids
    ]


def _measured_ids(context: RoundContext, round: int) -> pl.DataFrame:
    """Ids of the clips with texts that measure a round."""
    return context.workspace.texts(round, MEASURE, "clip_id").unique()


def _measured(context: RoundContext, round: int, clip_ids: pl.Series) -> dict[str, str]:
    """The texts of these clips that measure a round, by clip id; all of them need not fit in memory."""
    where = (pl.col("kind") == CAPTION) & (pl.col("purpose") == MEASURE) & pl.col("clip_id").is_in(clip_ids.implode())
    rows = context.workspace.records.read("annotations", round=round, columns=["clip_id", "text"], where=where)
    return dict(rows.iter_rows())


def _most_changed(context: RoundContext, now: int, before: int) -> list[str]:
    """Ids of the clips whose texts share the fewest words with those before, of the first two thousand."""
    both = _measured_ids(context, now).join(_measured_ids(context, before), on="clip_id", how="semi")
    ids = both["clip_id"].bottom_k(_MOST_COMPARED).sort()
    texts, old = (_measured(context, round, ids) for round in (now, before))
    scores = [(token_f1(texts[clip_id], old[clip_id]), clip_id) for clip_id in ids]
    return [clip_id for score, clip_id in sorted(scores) if score < 1][: 2 * _NUM_RANKED]


def _worst(context: RoundContext, now: int) -> list[str]:
    """Ids of the anchors whose texts share the fewest words with people's, of those that were corrected last."""
    corrected_last = list(reversed(corrected_clips(context.workspace)))
    anchors = set(context.split("anchor").with_ids(corrected_last).columns("id")["id"])
    ids = [clip_id for clip_id in corrected_last if clip_id in anchors][:_MOST_COMPARED]
    if not ids:
        return []
    people = _peoples(context.workspace, context.workspace.records.of_clips("annotations", ids))
    texts = _measured(context, now, pl.Series(ids))
    scores = [(token_f1(texts[i], people[i].text), i) for i in ids if i in texts and i in people]
    return [clip_id for score, clip_id in sorted(scores) if score < 1][:_NUM_RANKED]


@dataclass(frozen=True, kw_only=True)
class _People:
    """What people made of a clip's caption, and the caption that they looked at."""

    text: str
    of: str


def _peoples(workspace: Workspace, texts: pl.DataFrame) -> Mapping[str, _People]:
    """Clip id -> what people made of its newest caption that they judged, where they did not reject it."""
    captions = [annotation_of(r) for r in texts.filter(pl.col("kind") == CAPTION).sort("round").iter_rows(named=True)]
    left_out, leads = excluded_names(workspace), names_with_role(workspace, "lead")
    words = words_on_clips(workspace, dict.fromkeys(caption.clip_id for caption in captions))
    found: dict[str, _People] = {}
    for caption in captions:
        said = [w for w in words.get(caption.clip_id, ()) if w.refiner not in left_out]
        said = [w for w in said if w.annotation_id == caption.id]
        if any(w.verdict in ("accept", "edit") for w in standing(said).values()):
            text = corrected(caption, said, leads)
            if text is not None:
                found[caption.clip_id] = _People(text=text, of=caption.text)
    return found


def _view(context: RoundContext, clip: Clip, texts: pl.DataFrame, people: _People | None) -> ClipView:
    picture, error = _picture(context, clip.id)
    rows = texts.filter(pl.col("clip_id") == clip.id).sort("round", maintain_order=True)
    given = [
        ("transcript", clip.transcript or "(none)"),
        ("sounds", clip.sounds or ("(silence)" if clip.has_audio else "(no sound)")),
    ]
    views = [TextView(name=name, parts=[("same", text)]) for name, text in given]
    views += _models(rows)
    if people is not None:
        views.append(TextView(name="people", parts=parts(people.of, people.text)))
    return ClipView(clip=clip, picture=picture, error=error, file=_address(clip), texts=views)


def _models(rows: pl.DataFrame) -> Iterator[TextView]:
    """The models' texts, each against the one before it that was written for the same purpose."""
    before: dict[str, str] = {}
    for row in rows.iter_rows(named=True):
        if row["purpose"] == MEASURE or (row["kind"] == CAPTION and row["source"] == "model"):
            text, old = row["text"], before.get(row["purpose"], row["text"])
            yield TextView(name=_writer(row), parts=parts(old, text))
            before[row["purpose"]] = text


def _writer(row: Mapping[str, Any]) -> str:
    """Return which model wrote a text, or for which round it was written."""
    if row["round"] == 0:
        return "base"
    return f"M{row['round']}" if row["purpose"] == MEASURE else f"for round {row['round']}"


def _address(clip: Clip) -> str:
    path = Path(clip.uri)
    return f"{path.as_uri()}#t={clip.start_s:.3f},{clip.end_s:.3f}" if path.is_absolute() and path.is_file() else ""


def _picture(context: RoundContext, clip_id: str) -> tuple[str, str]:
    """Return a clip's first, middle and last frame as JPEG in base64, or why there is no picture."""
    from PIL import Image

    try:
        frames = context.input(clip_id, ("frames",)).frames_THWC
        assert frames is not None
        strip = thumbnail(frames)
    except MediaError as error:
        return "", str(error)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode(), ""

"""The queue as a file, for people who correct elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from flywheel.core.errors import BorderError, UserError
from flywheel.core.files import written_whole
from flywheel.core.types import LEARN, Clip
from flywheel.formats import corrections as formats
from flywheel.formats.choices import writer_of
from flywheel.formats.rows import ReviewRow
from flywheel.store import Workspace
from flywheel.store.corrections import corrected_ids
from flywheel.store.parts import clips_with_ids, in_parts, read_columns, shards_of
from human_refine.choices import choices_on_record
from human_refine.cleaning import cues_of
from human_refine.items import Item, items_with_ids
from human_refine.queue import waiting_captions

#: Texts that are in memory at a time.
_AT_A_TIME = 50_000
_DENSE = (pl.col("kind") == "dense_caption") & (pl.col("purpose") == LEARN)


def export_queue(
    workspace: Workspace,
    out: Path,
    limit: int | None = None,
    form: str = "",
    url: str = "http://127.0.0.1:8470",
    *,
    anchors_first: bool = False,
) -> int:
    """Write the last round's uncorrected texts, in the queue's order, for people to fill in; returns how many.

    ``form`` is the name of one of :mod:`flywheel.formats.corrections`, by default the one that the file's ending names.
    ``url`` is where the review page is reached, for the link of each row. A format of timed texts gets the round's
    dense captions; one that takes both gets captions where there are none. ``anchors_first`` brings captions of anchor
    clips before all others.
    Raises UserError where there is nothing to write.
    """
    chosen = formats.get(form) if form else formats.of_ending(out)
    dense = _dense_captions(workspace, limit) if chosen.cues else None
    if dense is None and not chosen.texts:
        raise UserError(
            "corrections export: no round has dense captions. Name them in annotate.also and run 'flywheel annotate'."
        )
    ids = waiting_captions(workspace, limit, anchors_first=anchors_first) if dense is None else dense
    rows = _Rows(workspace, url.rstrip("/"), ids)
    with _whole(out) as place:
        chosen.write(rows, place)
    return rows.count


def export_choices(workspace: Workspace, out: Path) -> int:
    """Write the choices between two texts that are on record, as they are imported again; returns how many.

    Raises UserError where there are none, or where the file's ending is none that choices come as.
    """
    write = writer_of(out)
    rows = list(choices_on_record(workspace))
    if not rows:
        raise UserError("corrections export: nobody has chosen between two texts yet. See review.compare.")
    with _whole(out) as place:
        write(rows, place)
    return len(rows)


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A place for a file that then takes the place of what was there. Raises BorderError where it can't be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(out) as place:
            yield place
    except (OSError, pl.exceptions.PolarsError) as error:
        what = getattr(error, "strerror", None) or error
        raise BorderError(f"{out}: can't be written ({what}). What was there is as it was.") from error


class _Rows:
    """The texts with these ids as rows for a file, some in memory at a time; counts those it gave."""

    def __init__(self, workspace: Workspace, url: str, ids: Sequence[str]) -> None:
        self._workspace, self._url, self._ids = workspace, url, ids
        self.count = 0

    def __iter__(self) -> Iterator[ReviewRow]:
        for part in _with_clips(self._workspace, self._ids):
            for item, clip in part:
                self.count += 1
                yield _row(item, clip, self._url)


def _with_clips(workspace: Workspace, ids: Sequence[str]) -> Iterator[list[tuple[Item, Clip]]]:
    """The texts with these ids and their clips, in order, many at a time."""
    for start in range(0, len(ids), _AT_A_TIME):
        part = ids[start : start + _AT_A_TIME]
        items = items_with_ids(workspace, part)
        clips = clips_with_ids(workspace, {item.clip_id for item in items.values()})
        yield [(items[i], clips[items[i].clip_id]) for i in part if i in items]


def _row(item: Item, clip: Clip, url: str) -> ReviewRow:
    return ReviewRow(
        annotation_id=item.annotation_id,
        uri=clip.uri,
        text=item.text,
        round=item.round,
        start_s=clip.start_s,
        end_s=clip.end_s,
        fps=clip.fps,
        cues=tuple(cues_of(item.payload)),
        clip_id=clip.id,
        split=clip.split,
        link=f"{url}/?text={item.annotation_id}",
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

"""Takes videos in: sources -> files -> clips and round-0 texts, or rejected rows with their reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress
from flywheel.core.types import Annotation, Clip, content_id
from flywheel.ingest.clips import clips_of
from flywheel.ingest.sources import Item, items
from flywheel.store import Workspace, media

_BATCH = 128
_THREADS = 2


@dataclass
class IngestResult:
    """Counts of one run. ``known`` are files whose content was taken in before, wherever they lie now."""

    clips: int = 0
    known: int = 0
    rejected: int = 0


def ingest(workspace: Workspace, sources: Sequence[str], *, limit: int | None = None) -> IngestResult:
    """Take sources into the workspace; the caller holds its lock. Raises UserError where a source is not there or empty."""
    result = IngestResult()
    stream = islice(_all_items(workspace, sources), limit)
    with progress("ingest", None) as bar, ThreadPoolExecutor(_THREADS) as pool:
        down = workspace.taken_down()
        while batch := list(islice(stream, _BATCH)):
            fresh: list[Clip] = []
            places: dict[str, str] = {}
            seen: set[str] = set()
            for outcome in pool.map(partial(_take, workspace=workspace), batch):
                bar.advance()
                item, content_hash, clips, problem = outcome
                if problem:
                    workspace.add_rejected(round=0, stage="ingest", uri=str(item.path), clip_id="", reason=problem)
                    result.rejected += 1
                    continue
                places.setdefault(content_hash, str(item.path))
                for clip in clips:
                    if clip.id in down:
                        why = f"was taken down: {down[clip.id]}"
                        workspace.add_rejected(round=0, stage="ingest", uri=str(item.path), clip_id="", reason=why)
                        result.rejected += 1
                refused = [clip for clip in clips if clip.id in down]
                clips = [clip for clip in clips if clip.id not in down]
                new = [clip for clip in clips if clip.id not in seen]
                seen.update(clip.id for clip in new)
                if not new and not refused:
                    result.known += 1
                fresh.extend(new)
            workspace.locate(places)
            # Texts first: a clip is what says that its file was taken in, so it must be the last to be written.
            workspace.add_annotations([_given_text(clip) for clip in fresh if clip.transcript], round=0)
            added = workspace.add_clips(fresh)
            result.clips += added
            result.known += len(fresh) - added
    return result


def _all_items(workspace: Workspace, sources: Sequence[str]) -> Iterator[Item]:
    problem: UserError | None = None
    for source in sources:
        try:
            yield from items(source, workspace.root / "media")
        except UserError as error:
            # The other sources still count; the error is raised when they are through.
            problem = problem or error
    if problem is not None:
        raise problem


def _take(item: Item, workspace: Workspace) -> tuple[Item, str, list[Clip], str]:
    if item.problem:
        return item, "", [], item.problem
    try:
        content_hash = media.file_hash(item.path)
        whole = item.start_s is None and item.end_s is None
        if whole and workspace.known_contents([content_hash]):
            return item, content_hash, [], ""
        return item, content_hash, clips_of(item, content_hash, workspace.config.corpus), ""
    except MediaError as error:
        return item, "", [], str(error)


def _given_text(clip: Clip) -> Annotation:
    return Annotation(
        id=content_id(0, "caption", clip.id, "transcript"),
        round=0,
        kind="caption",
        clip_id=clip.id,
        generation_id="",
        source="transcript",
        text=clip.transcript,
        mean_logprob=0.0,
    )

"""The run of an ingest: items in batches, each file read once, rows written by time or number.

Nothing here grows with the corpus: what is held is one batch, the rows of the next commit and a bounded memo of files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress
from flywheel.core.types import Annotation, Clip, content_id
from flywheel.ingest.clips import asked_clip_id, clips_of
from flywheel.ingest.files import File, Files
from flywheel.ingest.sources import Item, items
from flywheel.store import Workspace

_BATCH = 128
_THREADS = 2
#: Rows are committed when there are so many, or when the last commit is so long ago: few shards, and little to lose.
_COMMIT_ROWS = 4096
_COMMIT_S = 20.0


@dataclass
class IngestResult:
    """Counts of one run. ``known`` are files whose content was taken in before, wherever they lie now."""

    clips: int = 0
    known: int = 0
    rejected: int = 0


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The clips of an item, none where all are known; or the ``problem`` for which it is rejected."""

    item: Item
    content_hash: str = ""
    clips: Sequence[Clip] = ()
    problem: str = ""


def ingest(workspace: Workspace, sources: Sequence[str], *, limit: int | None = None) -> IngestResult:
    """Takes sources into the workspace; the caller holds its lock. Raises UserError where one is missing or empty."""
    with progress("ingest", None) as bar, ThreadPoolExecutor(_THREADS) as pool:
        intake = _Intake(workspace, pool)
        try:
            for batch in _batches(islice(_all_items(workspace, sources), limit)):
                intake.take(batch, bar.advance)
        finally:
            intake.commit()
    return intake.result


def _batches(stream: Iterator[Item]) -> Iterator[list[Item]]:
    """The items in batches; an error of the stream is raised after the items before it."""
    while True:
        batch: list[Item] = []
        try:
            for item in islice(stream, _BATCH):
                batch.append(item)  # noqa: PERF402, what came before an error is kept
        except UserError:
            if batch:
                yield batch
            raise
        if not batch:
            return
        yield batch


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


class _Intake:
    """What is decided about items, and the rows that wait for the next commit."""

    def __init__(self, workspace: Workspace, pool: ThreadPoolExecutor) -> None:
        self.result = IngestResult()
        self._workspace, self._pool = workspace, pool
        self._files = Files()
        self._taken_down = workspace.taken_down()
        #: Clip id -> clip, and content hash -> path, since the last commit.
        self._clips: dict[str, Clip] = {}
        self._places: dict[str, str] = {}
        #: Contents of waiting clips of earlier batches.
        self._contents: set[str] = set()
        self._committed_at = time.monotonic()

    def take(self, batch: Sequence[Item], advance: Callable[[], None]) -> None:
        """Takes in a batch of items: each becomes clips, or is known, or is rejected."""
        for outcome in self._outcomes(batch):
            self._keep(outcome)
            advance()
            waiting = max(len(self._clips), len(self._places))
            if waiting >= _COMMIT_ROWS or time.monotonic() - self._committed_at > _COMMIT_S:
                self.commit()
        self._contents = {clip.content_hash for clip in self._clips.values()}
        self._files.forget()

    def commit(self) -> None:
        """Writes the waiting rows, in an order in which a kill loses nothing."""
        clips = list(self._clips.values())
        # Texts first: a clip is what says that its file was taken in.
        self._workspace.add_annotations([_given_text(clip) for clip in clips if clip.transcript], round=0)
        added = self._workspace.add_clips(clips)
        # Locations last: they are of contents that gave clips.
        self._workspace.locate(self._places)
        self.result.clips += added
        self.result.known += len(clips) - added
        self._clips, self._places, self._contents = {}, {}, set()
        self._committed_at = time.monotonic()

    def _outcomes(self, batch: Sequence[Item]) -> Iterator[_Outcome]:
        """What becomes of each item, in order. Files are hashed first: what is known needs nothing more."""
        files = [self._files.get(item.path) for item in batch]
        hashes = list(self._pool.map(_hash, batch, files))
        known = self._known(batch, hashes)
        corpus = self._workspace.config.corpus

        def decide(item: Item, file: File, content_hash: str | MediaError, is_known: bool) -> _Outcome:
            if item.problem or isinstance(content_hash, MediaError):
                return _Outcome(item=item, problem=item.problem or str(content_hash))
            if is_known:
                return _Outcome(item=item, content_hash=content_hash)
            try:
                return _Outcome(item=item, content_hash=content_hash, clips=clips_of(item, file, corpus))
            except MediaError as error:
                return _Outcome(item=item, problem=str(error))

        yield from self._pool.map(decide, batch, files, hashes, known)

    def _known(self, batch: Sequence[Item], hashes: Sequence[str | MediaError]) -> list[bool]:
        """Whether each item was taken in before: a whole file by its content, a span by its clip's id."""
        read = [None if item.problem or isinstance(h, MediaError) else h for item, h in zip(batch, hashes, strict=True)]
        whole = {h for item, h in zip(batch, read, strict=True) if h is not None and item.is_whole}
        contents = self._workspace.known_contents(whole) | self._contents
        ids = [None if h is None else asked_clip_id(item, h) for item, h in zip(batch, read, strict=True)]
        asked = {clip_id for clip_id in ids if clip_id is not None}
        clips = (self._workspace.records.known("clips", asked) | self._clips.keys()) - self._taken_down.keys()
        return [
            h in contents if item.is_whole else clip_id in clips
            for item, h, clip_id in zip(batch, read, ids, strict=True)
        ]

    def _keep(self, outcome: _Outcome) -> None:
        if outcome.problem:
            self._reject(outcome.item, outcome.problem)
            return
        refused = [clip for clip in outcome.clips if clip.id in self._taken_down]
        for clip in refused:
            self._reject(outcome.item, f"was taken down: {self._taken_down[clip.id]}")
        new = [clip for clip in outcome.clips if clip.id not in self._taken_down and clip.id not in self._clips]
        if not new and not refused:
            self.result.known += 1
        if new or not refused:
            self._places.setdefault(outcome.content_hash, str(outcome.item.path))
        self._clips.update({clip.id: clip for clip in new})

    def _reject(self, item: Item, reason: str) -> None:
        self._workspace.add_rejected(round=0, stage="ingest", uri=str(item.path), clip_id="", reason=reason)
        self.result.rejected += 1


def _hash(item: Item, file: File) -> str | MediaError:
    if item.problem:
        return ""
    try:
        return file.content_hash()
    except MediaError as error:
        return error


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

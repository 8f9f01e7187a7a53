"""The run of an ingest: items in batches, each file read once, rows written by time or number.

Nothing here grows with the corpus: what is held is one batch, the rows of the next commit and a bounded memo of files.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.border import is_of_one_item, one_item, reason_of
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress
from flywheel.core.types import Annotation, Clip, Cue, content_id
from flywheel.formats import timed_text
from flywheel.ingest.files import Files
from flywheel.ingest.items import Item, Rules
from flywheel.ingest.later import LaterWords, TakenIn
from flywheel.ingest.notes import Note, Notes
from flywheel.ingest.outcomes import Outcome, Question, hashed, may_have_new_words, outcome_of
from flywheel.ingest.passed import Passed
from flywheel.ingest.said import FirstTexts
from flywheel.ingest.sides import Sides, side_of, unlisted
from flywheel.ingest.sources import items
from flywheel.store import Workspace
from flywheel.store.copies import remove_halves
from flywheel.store.objects import url_of
from flywheel.store.takedowns import Span
from flywheel.store.writing import reject

_BATCH = 128
_THREADS = 2
#: A clip that lasts longer is told of, where nobody asked for its span.
_LONG_S = 60.0
#: Begins, or is in, the reason for which what was taken down is rejected.
_TAKEN_DOWN = "was taken down: "
#: Rejected files that a run names.
_NAMED = 10
#: Rows are committed when there are so many, or when the last commit is so long ago: few shards, and little to lose.
_COMMIT_ROWS = 4096
_COMMIT_S = 20.0


@dataclass
class IngestResult:
    """Counts of one run. ``known`` are files whose content was taken in before, wherever they lie now.

    ``new_texts`` are clips that were known and have other words now; they count as known no more.
    ``first_rejected`` names the first rejected files with their reasons. ``other_texts`` counts texts that are left
    out since a clip keeps one, the first. ``passed_over`` counts files that are no videos, by their ending or what else
    they are; ``notes`` say how sources and files were read: what was guessed, and what was left.
    """

    clips: int = 0
    known: int = 0
    new_texts: int = 0
    rejected: int = 0
    first_rejected: list[str] = field(default_factory=list)
    other_texts: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class SourcesError(UserError):
    """A source that is missing or is none; ``result`` is what the others gave."""

    def __init__(self, error: UserError, result: IngestResult) -> None:
        super().__init__(str(error), code=error.code)
        self.result = result


def ingest(
    workspace: Workspace, sources: Sequence[str], *, limit: int | None = None, dry_run: bool = False
) -> IngestResult:
    """Takes sources into the workspace; the caller holds its lock.

    With ``dry_run`` every file is looked at and nothing is written; the lock is not needed. What would be refused as a
    copy of a video on another side is not known then. Raises SourcesError where a source is missing or empty, after the
    others.
    """
    if dry_run and limit is None and (url := next(filter(None, map(url_of, sources)), None)):
        raise UserError(
            f"{url}: is on an object store, and a dry run looks into files: all would be fetched, and be gone again. "
            "Say with --limit how many to look at."
        )
    with progress("ingest", None) as bar, ThreadPoolExecutor(_THREADS) as pool, _media(workspace, dry_run) as media:
        intake, passed = (_DryIntake if dry_run else _Intake)(workspace, pool, media), Passed()
        try:
            for batch in _batches(islice(_all_items(workspace, sources, passed, media, limit), limit)):
                intake.take(batch, bar.advance)
        except UserError as error:
            raise SourcesError(error, intake.result) from error
        finally:
            intake.finish()
            intake.result.passed_over = dict(passed.counts.most_common())
            intake.result.notes = [*passed.notes, *intake.notes.lines()]
    return intake.result


@contextlib.contextmanager
def _media(workspace: Workspace, dry_run: bool) -> Iterator[Path]:
    """Where videos out of containers are put: the workspace's folder, or one that is gone afterwards."""
    if not dry_run:
        # What a killed ingest left.
        remove_halves(workspace.root / "media")
        yield workspace.root / "media"
        return
    with tempfile.TemporaryDirectory(prefix="flywheel-ingest-") as folder:
        yield Path(folder)


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


def _all_items(
    workspace: Workspace, sources: Sequence[str], passed: Passed, media: Path, limit: int | None
) -> Iterator[Item]:
    problems: list[UserError] = []
    rules = Rules(split_key=workspace.config.corpus.split_key, links=workspace.config.corpus.links)
    for source in sources:
        url = None
        try:
            url = url_of(source)
            named = items(source, media, rules, passed, limit)
            # Copies of what lies on an object store are of the URL: there it is mended.
            yield from named if url is None else (replace(item, source=url) for item in named)
        except UserError as error:
            # The other sources still count; the error is raised when they are through.
            problems.append(error)
        except BaseException as error:
            if not is_of_one_item(error):
                raise
            # What came before it is taken in, and what breaks is one row.
            whole = os.path.abspath(source) if url is None else url
            yield Item(path=Path(source), source=whole, problem=f"breaks off ({reason_of(error)})")
    if len(problems) > 1:
        raise UserError(" ".join(map(str, problems[:_NAMED])))
    if problems:
        raise problems[0]


class _Intake:
    """What is decided about items, and the rows that wait for the next commit."""

    #: Whether videos that versions before did not list are listed, which writes.
    _lists = True

    def __init__(self, workspace: Workspace, pool: ThreadPoolExecutor, media: Path) -> None:
        self.result, self.notes = IngestResult(), Notes()
        self._workspace, self._pool, self._media = workspace, pool, media
        self._sides, self._first_texts = Sides(workspace, lists=self._lists), FirstTexts()
        self._files = Files(most_pixels=workspace.config.corpus.max_pixels, filling=media)
        self._taken_down = workspace.taken_down()
        #: Clip id -> clip, text id -> text, and content hash -> path, since the last commit.
        self._clips: dict[str, Clip] = {}
        self._texts: dict[str, Annotation] = {}
        self._places: dict[str, str] = {}
        #: Clip id -> which streams of its file were chosen and left.
        self._tracks: dict[str, str] = {}
        #: Id -> row of what was rejected since the last commit.
        self._rejects: dict[str, dict[str, Any]] = {}
        #: Content hash -> bytes and time of change (ns) of the file there.
        self._stamps: dict[str, tuple[int, int]] = {}
        #: Clip id -> words that came later, since the last commit; and of the whole run the clips that have such.
        self._words: dict[str, LaterWords] = {}
        self._renewed: set[str] = set()
        self._taken_in = TakenIn(workspace)
        #: Contents of waiting clips of earlier batches.
        self._contents: set[str] = set()
        #: Contents that a dry run met: no commit makes them known.
        self._met: set[str] = set()
        #: Files that this run took out of a container, whose items were all rejected so far.
        self._unwanted: set[Path] = set()
        self._committed_at = time.monotonic()

    def take(self, batch: Sequence[Item], advance: Callable[[], None]) -> None:
        """Takes in a batch of items: each becomes clips, or is known, or is rejected."""
        for outcome in self._outcomes(batch):
            self._keep(outcome)
            advance()
            rows = (self._clips, self._texts, self._places, self._words, self._rejects)
            if (
                max(len(waiting) for waiting in rows) >= _COMMIT_ROWS
                or time.monotonic() - self._committed_at > _COMMIT_S
            ):
                self.commit()
        self._contents = {clip.content_hash for clip in self._clips.values()}
        self._files.forget()
        self._remove_unwanted(batch)

    def finish(self) -> None:
        """Writes what waits; the last unwanted files go."""
        self.commit()
        self._remove_unwanted(())

    def _remove_unwanted(self, batch: Sequence[Item]) -> None:
        """Remove what a container held and nothing wants.

        Files of this batch stay for the next: it may go on with them. A video of the same content that comes later is
        put there again.
        """
        gone = self._unwanted - {item.path for item in batch}
        for path in gone:
            for file in (path, *(path.with_suffix(ending) for ending in timed_text.endings())):
                self._remove(file)
        self._unwanted -= gone

    def _with_sources(self) -> list[dict[str, Any]]:
        """The waiting rejects; those that versions before noted without their source get a row of their own."""
        records = self._workspace.records
        known = records.known("rejected", self._rejects)
        if not known:
            return list(self._rejects.values())
        rows = records.rows("rejected", known, ["id", "source"])
        bare = set(rows.filter(pl.col("source") == "")["id"])
        return [
            {**row, "id": content_id(row["id"], row["source"])} if row["id"] in bare else row
            for row in self._rejects.values()
        ]

    def _remove(self, file: Path) -> None:
        # In an object store too: an earlier run may have put it there.
        self._workspace.discard(file)

    def commit(self) -> None:
        """Writes the waiting rows, in an order in which a kill loses nothing."""
        # Before clips: of a file that is known by its other clips, what was refused is not looked at again.
        self._workspace.add_rejects(self._with_sources(), round=0)
        self._rejects = {}
        # Sides too: a clip that is on record is on the side of its video.
        self._sides.write()
        # Texts before clips: a clip is what says that its file was taken in.
        words = self._numbered_words()
        self._workspace.add_annotations([*self._texts.values(), *(text for _, text in words)], round=0)
        self._workspace.add_tracks(self._tracks)
        added = self._workspace.add_clips(self._clips.values())
        self._workspace.add_transcripts([row for row, _ in words if self._words[row[0]].is_shown])
        # Locations last: they are of contents that gave clips.
        self._workspace.locate(self._places, self._stamps)
        self.result.clips += added
        self.result.known += len(self._clips) - added
        self._words, self._tracks = {}, {}
        self._clips, self._texts, self._places, self._stamps, self._contents = {}, {}, {}, {}, set()
        self._committed_at = time.monotonic()

    def _numbered_words(self) -> list[tuple[tuple[str, int, str, Sequence[Cue]], Annotation]]:
        """Of each clip that has other words now the row of its words, and the words as a text."""
        if not self._words:
            return []
        records = self._workspace.records
        before = Counter(records.of_clips("transcripts", self._words.keys(), columns=["clip_id"])["clip_id"])
        with_text = records.known("annotations", map(_text_id, self._words))
        rows = []
        for clip_id, later in self._words.items():
            text = _given_text(clip_id, later.transcript)
            if text.id in with_text:
                text = replace(text, id=content_id(0, "caption", clip_id, "transcript", before[clip_id], text.text))
            rows.append(((clip_id, before[clip_id], later.transcript, later.cues), text))
        return rows

    def _outcomes(self, batch: Sequence[Item]) -> Iterator[Outcome]:
        """What becomes of each item, in order. Files are hashed first: what is known needs no probe."""
        files = [self._files.get(item.path, item.root) for item in batch]
        hashed_within = partial(hashed, seconds=self._workspace.config.corpus.max_seconds)
        questions = self._with_videos(self._looked_up(list(self._pool.map(hashed_within, batch, files))))
        yield from self._pool.map(partial(outcome_of, corpus=self._workspace.config.corpus), questions)

    def _looked_up(self, questions: Sequence[Question]) -> list[Question]:
        """The questions with what was taken in before: a whole file by its content, a span by its clip's id."""
        whole = {q.content_hash for q in questions if not q.problem and q.item.is_whole}
        contents = self._workspace.known_contents(whole) | self._contents | (whole & self._met)
        records = self._workspace.records
        asked = {q.clip_id for q in questions if q.clip_id}
        places = self._workspace.places(whole & contents)
        with_words = {q.content_hash for q in questions if may_have_new_words(q, places, self._workspace.root)}
        clips_of = self._taken_in.clips_of(with_words)
        clips = (records.known("clips", asked) | (asked & self._clips.keys())) - self._taken_down.keys()
        texts = records.known("annotations", map(_text_id, clips)) | self._texts.keys()
        return [
            replace(
                q,
                is_known=not q.problem and (q.content_hash in contents if q.item.is_whole else q.clip_id in clips),
                has_text=_text_id(q.clip_id) in texts,
                clips=clips_of.get(q.content_hash, ()) if may_have_new_words(q, places, self._workspace.root) else (),
            )
            for q in questions
        ]

    def _with_videos(self, questions: Sequence[Question]) -> list[Question]:
        """The questions with what is on record of their videos. What was taken down in whole is rejected here."""
        listed = self._sides.videos.known({q.content_hash for q in questions if q.content_hash})
        # Also those that are not listed: workspaces of layouts without the list took them down by content.
        videos = [listed.get(h) or unlisted(h) for h in {q.content_hash for q in questions if q.content_hash}]
        refusals = self._workspace.takedowns.refusals(videos)

        def seen(question: Question) -> Question:
            spans = refusals.get(question.content_hash, [])
            whole = next((span for span in spans if span.is_whole()), None)
            problem = question.problem or (f"{_TAKEN_DOWN}{whole.reason}" if whole is not None else "")
            return replace(question, problem=problem, listed=listed.get(question.content_hash), taken_down=tuple(spans))

        return [seen(question) for question in questions]

    def _placed(self, outcome: Outcome) -> Outcome:
        """The outcome with its clips on the side of their video, and with all that was taken down of it.

        Raises MediaError where the video is refused.
        """
        new, video = outcome.newcomer, outcome.listed
        if not outcome.clips or (video is None and new is None):
            return outcome
        spans = list(outcome.taken_down)
        if video is None and new is not None:
            # A copy in another container may have been taken down.
            as_it_is = unlisted(outcome.content_hash, new.streams)
            spans = self._workspace.takedowns.refusals([as_it_is]).get(outcome.content_hash, [])
            if whole := next((span for span in spans if span.is_whole()), None):
                raise MediaError(f"{_TAKEN_DOWN}{whole.reason}")
            video = self._sides.place(new)
        assert video is not None
        return replace(outcome, clips=[replace(c, split=side_of(video)) for c in outcome.clips], taken_down=spans)

    def _refusal(self, clip: Clip, spans: Sequence[Span]) -> str | None:
        """Why a clip was taken down; None where it was not."""
        if clip.id in self._taken_down:
            return self._taken_down[clip.id]
        return next((span.reason for span in spans if span.overlaps(clip.start_s, clip.end_s)), None)

    def _keep(self, outcome: Outcome) -> None:
        self.notes.add(outcome.notes)
        if outcome.problem:
            self._reject(outcome.item, outcome.problem, is_all=True)
            return
        try:
            with one_item("can't be taken in"):
                outcome = self._placed(outcome)
        except MediaError as error:
            self._reject(outcome.item, str(error), is_all=True)
            return
        reasons = {clip.id: self._refusal(clip, outcome.taken_down) for clip in outcome.clips}
        refused = [clip for clip in outcome.clips if reasons[clip.id] is not None]
        for clip in refused:
            self._reject(outcome.item, f"{_TAKEN_DOWN}{reasons[clip.id]}")
        new = [clip for clip in outcome.clips if reasons[clip.id] is None and clip.id not in self._clips]
        if outcome.item.is_whole and any(clip.duration_s > _LONG_S for clip in new):
            self.notes.add([self._long(outcome.item)])
        if self._give_words(outcome.clips, are_shown=outcome.item.is_whole):
            self._first_texts.forget(outcome.content_hash, outcome.item)
        found = new[0].transcript if len(new) == 1 else None
        is_another = self._first_texts.is_another(outcome.content_hash, outcome.item, found) or outcome.says_else
        self.result.other_texts += outcome.item.others
        words = {later.clip_id: later for later in outcome.words if later.clip_id not in self._renewed}
        self._words |= words
        self._renewed |= words.keys()
        self.result.new_texts += len(words)
        if not new and not refused and not words:
            self.result.other_texts += is_another
            self.result.known += not is_another
        if new or not refused:
            self._unwanted.discard(outcome.item.path)
        if (new or not refused) and outcome.content_hash not in self._places:
            self._places[outcome.content_hash] = str(outcome.item.path)
            self._stamps |= {outcome.content_hash: outcome.stamp} if outcome.stamp is not None else {}
        self._clips.update({clip.id: clip for clip in new})
        self._tracks.update({clip.id: outcome.tracks for clip in new if outcome.tracks})
        for text in (_given_text(clip.id, clip.transcript) for clip in new if clip.transcript):
            self._texts.setdefault(text.id, text)

    def _long(self, item: Item) -> Note:
        corpus = self._workspace.config.corpus
        what = f"a clip of over {_LONG_S:.0f} s, of which the model sees {corpus.frames} frames"
        return Note(
            of=str(item.path), what=f"{what}. Set corpus.split_by to scene, and: flywheel ingest SOURCE --recut"
        )

    def _give_words(self, clips: Sequence[Clip], *, are_shown: bool) -> bool:
        """Give waiting clips that came without words those that another item has of them; returns whether it did.

        Those of a span are a text to learn and no more, as where they come in a later run.
        """
        any_given = False
        for clip in clips:
            text_id = _text_id(clip.id)
            if clip.transcript and clip.id in self._clips and text_id not in self._texts:
                self._texts[text_id] = _given_text(clip.id, clip.transcript)
                if are_shown:
                    self._clips[clip.id] = replace(self._clips[clip.id], transcript=clip.transcript, cues=clip.cues)
                any_given = True
        return any_given

    def _reject(self, item: Item, reason: str, *, is_all: bool = False) -> None:
        """Count a reject; ``is_all``: no clip of the item's file goes in."""
        # What was taken down is fetched again with the rest of its URL, and must not stay.
        was_fetched = is_all and _TAKEN_DOWN in reason and item.path.is_relative_to(self._media)
        if item.is_new_copy or was_fetched:
            self._unwanted.add(item.path)
        row = reject(0, "ingest", str(item.path), "", reason, source=item.source or str(item.path), span=item.span)
        self._rejects.setdefault(row["id"], row)
        self.result.rejected += 1
        if len(self.result.first_rejected) < _NAMED:
            self.result.first_rejected.append(f"{item.path}: {reason}")


class _DryIntake(_Intake):
    """Decides about items as an intake does, and writes nothing. Holds the contents that it met."""

    _lists = False
    #: Files taken out of a container that are still there.
    _copies: frozenset[Path] = frozenset()

    def _remove_unwanted(self, batch: Sequence[Item]) -> None:
        """Remove all that was taken out of a container: a dry run needs the room of two batches."""
        self._unwanted |= self._copies | {item.path for item in batch if item.is_new_copy}
        super()._remove_unwanted(batch)
        self._copies = frozenset(self._unwanted)

    def commit(self) -> None:
        """Counts the waiting clips and forgets them."""
        known = self._workspace.records.known("clips", self._clips)
        self.result.clips += len(self._clips) - len(known)
        self.result.known += len(known)
        self._met |= {clip.content_hash for clip in self._clips.values()}
        self._words, self._tracks = {}, {}
        self._clips, self._texts, self._places, self._stamps, self._rejects = {}, {}, {}, {}, {}
        self._committed_at = time.monotonic()

    def _remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)

    def _placed(self, outcome: Outcome) -> Outcome:
        return outcome


def _text_id(clip_id: str) -> str:
    return content_id(0, "caption", clip_id, "transcript")


def _given_text(clip_id: str, words: str) -> Annotation:
    return Annotation(
        id=_text_id(clip_id),
        round=0,
        kind="caption",
        clip_id=clip_id,
        generation_id="",
        source="transcript",
        text=words,
        mean_logprob=0.0,
    )

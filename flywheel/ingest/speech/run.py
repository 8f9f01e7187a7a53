"""The run of a transcription: each file is listened to once, and its clips get their parts of what was recognised.

A file's recognition is on record before its clips' parts are: killed between, the parts are taken from the record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.progress import progress
from flywheel.core.reading import IN_A_ROW, Reading
from flywheel.core.types import Clip
from flywheel.ingest.notes import Note, Notes
from flywheel.ingest.speech.counts import Plan, TranscribeResult
from flywheel.ingest.speech.folder import recogniser_folder, source_of
from flywheel.ingest.speech.rows import moved, recognition_row, spoken_words, transcript_row
from flywheel.ingest.speech.words import Segment, doubt
from flywheel.ingest.speech.work import Asked, FileWork, Wordless, seconds_of
from flywheel.media.audio import SoundChoice, read_blocks, sound_choice
from flywheel.media.probe import probe
from flywheel.store import Workspace
from flywheel.store.writing import reject

if TYPE_CHECKING:
    from flywheel.ingest.speech.whisper import Recognition, Whisper

#: Rows are committed when so many files wait, as the configuration says, or when the last commit is so long ago.
_COMMIT_S = 20.0
#: Letters of a dropped text that its reason quotes.
_QUOTED = 80


def plan(workspace: Workspace, *, limit: int | None = None) -> Plan:
    """What :func:`transcribe` would do. Raises UserError for a model that it could not use."""
    options = workspace.config.transcribe
    source = source_of(recogniser_folder(options.model, workspace.root))
    wordless = Wordless(workspace)
    found = Plan(source=source, without_sound=wordless.without_sound)
    for _, work in wordless.batches(Asked.of(source, options)):
        for file in work:
            if file.row is None and found.files == limit:
                return found
            found.files += file.row is None
            found.clips += len(file.clips)
            found.hours += seconds_of([file]) / 3600
    return found


def transcribe(workspace: Workspace, *, limit: int | None = None) -> TranscribeResult:
    """Give the clips that have sound and no words their part of what is said in their files; the caller holds the lock.

    At most ``limit`` files are listened to. Raises UserError for a model that can't be used, BorderError where it
    fails, Unreadable where most files are gone.
    """
    options = workspace.config.transcribe
    folder = recogniser_folder(options.model, workspace.root)
    source = source_of(folder)
    wordless = Wordless(workspace)
    run = _Run(workspace, Asked.of(source, options), folder)
    run.result.without_sound = wordless.without_sound
    try:
        with progress("transcribe", len(wordless)) as bar:
            for count, work in wordless.batches(run.asked):
                bar.advance(count - len(work))
                workspace.originals.expect(file.content_hash for file in work)
                if not run.take_all(work, limit, bar.advance):
                    break
    finally:
        run.commit()
        run.result.notes = run.notes.lines()
    run.end()
    return run.result


class _Run:
    """The recogniser, what was counted, and the rows that wait for the next commit."""

    def __init__(self, workspace: Workspace, asked: Asked, folder: Path) -> None:
        self.result, self.asked, self.notes = TranscribeResult(source=asked.source), asked, Notes()
        #: Files that were listened to, or could not be.
        self.listened = 0
        self._workspace, self._folder = workspace, folder
        self._loaded: Whisper | None = None
        self._reading = Reading("transcribe", workspace.config.corpus.most_unreadable)
        #: Rows of kinds, and rejects of files that are not there: whether a disk is away is known at the end.
        self._recognitions: list[dict[str, Any]] = []
        self._transcripts: list[dict[str, Any]] = []
        self._rejects: list[dict[str, Any]] = []
        self._gone: list[dict[str, Any]] = []
        self._committed_at = time.monotonic()

    def take_all(self, work: Sequence[FileWork], limit: int | None, advance: Callable[[], None]) -> bool:
        """Take files as :meth:`take` does; returns whether further ones may be taken, by the limit."""
        for file in work:
            if file.row is None and self.listened == limit:
                return False
            self.take(file)
            advance()
        return True

    def take(self, file: FileWork) -> None:
        """Give a file's clips their words, listening to it where that was not done."""
        row = file.row
        if row is None:
            self.listened += 1
            row = self._listened_to(file)
        if row is not None:
            self._share(row, file.clips, is_new=file.row is None)
        waiting = len(self._recognitions) >= self._workspace.config.transcribe.commit_files
        if waiting or len(self._transcripts) > 4096 or time.monotonic() - self._committed_at > _COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Write the waiting rows, in an order in which a kill loses nothing and asks for nothing twice."""
        # Rejects first: a file that is on record is never looked at again.
        self._workspace.add_rejects(self._rejects, round=0)
        self._workspace.add_recognitions(self._recognitions)
        self._workspace.add_asr_transcripts(self._transcripts)
        self._recognitions, self._transcripts, self._rejects = [], [], []
        self._committed_at = time.monotonic()

    def end(self) -> None:
        """Put the files that are gone on record. Raises Unreadable where they are most of those that were tried."""
        self._reading.check(ended=True)
        self._reject_gone()

    def _reject_gone(self) -> None:
        self._workspace.add_rejects(self._gone, round=0)
        for row in self._gone:
            self.result.reject(row["uri"], row["reason"])
        self._gone = []

    def _listened_to(self, file: FileWork) -> dict[str, Any] | None:
        """The row of what is said in a file; None where it can't be read, which is on record then."""
        path = Path(file.clips[0].uri)
        try:
            with one_item():
                self._workspace.originals.check(path, file.content_hash)
        except MediaError as error:
            self._note_gone(self._reject(file.clips[0], str(error)))
            return None
        self._reading.good()
        try:
            with one_item("can't be listened to"):
                return self._recognised(file, path)
        except MediaError as error:
            self._rejects.append(self._reject(file.clips[0], str(error)))
            self.result.reject(str(path), str(error))
            return None

    def _note_gone(self, row: dict[str, Any]) -> None:
        """Take note of a file that is gone, or replaced. Raises Unreadable where that is so of most of them."""
        self._gone.append(row)
        # What was gone in an earlier run says nothing of the disk.
        if not self._workspace.records.known("rejected", [row["id"]]):
            self._reading.bad(row["uri"], row["reason"])
            self._reading.check()
        if len(self._gone) > IN_A_ROW:
            self._reject_gone()

    def _recognised(self, file: FileWork, path: Path) -> dict[str, Any]:
        options = self._workspace.config.transcribe
        choice = sound_choice(path, options.track)
        begin_s, end_s = file.span_s
        if file.whole:
            end_s = probe(path, most_pixels=self._workspace.config.corpus.max_pixels).duration_s
        found = self._recogniser().recognise(read_blocks(path, begin_s, end_s, track=options.track))
        # Replaced while it was read: this would be another video's words.
        self._workspace.originals.check(path, file.content_hash)
        kept = self._kept(found, begin_s, file.clips)
        self._note(choice, path)
        self.result.hear(found.language, is_speech=bool(kept))
        key = self.asked.file_key(file.content_hash, whole=file.whole)
        row = {"id": key, "content_hash": file.content_hash, "source": self.asked.source}
        row |= recognition_row((begin_s, end_s), choice.track, found, kept)
        self._recognitions.append(row)
        return row

    def _kept(self, found: Recognition, begin_s: float, clips: Sequence[Clip]) -> list[Segment]:
        """The segments that are speech, in seconds of the file; the others are rejected rows of their clips."""
        kept = []
        for segment in found.segments:
            placed = moved(segment, begin_s)
            if not (why := doubt(placed)):
                kept.append(placed)
                continue
            self.result.dropped += 1
            middle_s = (placed.start_s + placed.end_s) / 2
            if (clip := next((c for c in clips if c.start_s <= middle_s < c.end_s), None)) is not None:
                quoted = json.dumps(placed.text[:_QUOTED], ensure_ascii=False)
                self._rejects.append(self._reject(clip, f"{quoted} at {placed.start_s:.2f} s dropped: {why}"))
        return kept

    def _share(self, row: dict[str, Any], clips: Sequence[Clip], *, is_new: bool) -> None:
        """Give clips their parts of a file's recognition."""
        spoken = spoken_words(row)
        for clip in clips:
            row_of_clip = transcript_row(clip, row, spoken)
            self._transcripts.append({"id": self.asked.clip_key(clip.id), "source": self.asked.source, **row_of_clip})
            self.result.give(row_of_clip["transcript"], is_new=is_new)

    def _recogniser(self) -> Whisper:
        """The model, loaded when the first file wants it."""
        if self._loaded is None:
            from flywheel.ingest.speech.whisper import Whisper

            self._loaded = Whisper(self._folder, self._workspace.config.transcribe)
        return self._loaded

    def _reject(self, clip: Clip, reason: str) -> dict[str, Any]:
        return reject(0, "transcribe", clip.uri, clip.id, reason)

    def _note(self, choice: SoundChoice, path: Path) -> None:
        """Say which of several sounds was taken, and where the one that was asked for is not there."""
        wanted = self._workspace.config.transcribe.track
        track = choice.track
        of = f"{path}, stream {track.index}" + (f" ({track.language})" if track.language else "")
        if wanted and not choice.is_wanted:
            self.notes.add([Note(of=of, what=f"taken, since there is no sound {wanted!r} (transcribe.track)")])
        elif choice.others:
            why = "as transcribe.track asks" if wanted else "as players choose; transcribe.track takes another"
            self.notes.add([Note(of=of, what=f"taken of several sounds, {why}")])

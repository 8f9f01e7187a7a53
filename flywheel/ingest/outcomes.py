"""What the file of an item says: hashed, probed and cut into clips, or why it is rejected.

Nothing here reads or writes records: what is known of a file before it is probed comes with the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.core.border import one_item
from flywheel.core.config import Corpus
from flywheel.core.errors import MediaError
from flywheel.core.types import Clip
from flywheel.ingest.clips import asked_clip_id, clips_of, folded, words_beside
from flywheel.ingest.files import File
from flywheel.ingest.items import Item
from flywheel.ingest.later import LaterWords, given_words, later_words
from flywheel.ingest.notes import Note
from flywheel.ingest.sides import Newcomer, newcomer
from flywheel.media.border import time_limit
from flywheel.media.choice import told
from flywheel.store.mirror import is_gone
from flywheel.store.takedowns import Span
from flywheel.store.videos import Video


@dataclass(frozen=True, kw_only=True)
class Question:
    """An item, what is known of it before its file is probed, and the reason where it is rejected already."""

    item: Item
    file: File
    content_hash: str = ""
    problem: str = ""
    #: The clip that the item asks for, where it names one; and whether the clip or the whole file was taken in before.
    clip_id: str = ""
    is_known: bool = False
    has_text: bool = False
    #: The clips of a known file of which its source or a file beside it has words, to see whether they are new.
    clips: Sequence[Clip] = ()
    #: The video where it is listed: it need not be looked at to know its side.
    listed: Video | None = None
    #: What of the video was taken down.
    taken_down: Sequence[Span] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The clips of an item, none where all are known; or the ``problem`` for which it is rejected."""

    item: Item
    content_hash: str = ""
    clips: Sequence[Clip] = ()
    words: Sequence[LaterWords] = ()
    #: Whether the source says something else of a clip than what is on record.
    says_else: bool = False
    problem: str = ""
    #: The video as it is listed, or what tells its side where it is not.
    listed: Video | None = None
    newcomer: Newcomer | None = None
    taken_down: Sequence[Span] = ()
    #: What there is to say of how the item was read.
    notes: Sequence[Note] = ()
    #: Which streams of the file were chosen and left, as JSON; empty where there was no choice.
    tracks: str = ""
    #: Of the file whose content was read.
    stamp: tuple[int, int] | None = None


def may_have_new_words(question: Question, places: Mapping[str, str], root: Path) -> bool:
    """Whether a source or a file beside it has words for a known file.

    Beside a copy that lies elsewhere are not the words of the clips, while the place on record is there. ``root`` is
    the workspace's folder.
    """
    item, place = question.item, places.get(question.content_hash, "")
    if not place or not item.is_whole or item.transcript is not None:
        return bool(place and item.is_whole and item.transcript)
    if not question.file.may_have_side_car():
        return False
    return place == str(item.path) or is_gone(root, place)


def hashed(item: Item, file: File, *, seconds: float) -> Question:
    """The question of an item with its content's hash; rejected where the file can't be read in ``seconds``."""
    if item.problem:
        return Question(item=item, file=file, problem=item.problem)
    try:
        with one_item("can't be taken in"), time_limit(seconds):
            content_hash = file.content_hash()
            clip_id = asked_clip_id(item, content_hash)
    except MediaError as error:
        return Question(item=item, file=file, problem=str(error))
    return Question(item=item, file=file, content_hash=content_hash, clip_id=clip_id)


def outcome_of(question: Question, corpus: Corpus) -> Outcome:
    """The clips or later words of an item; rejected with the reason where its file can't be taken in."""
    item = question.item
    if question.problem:
        return Outcome(item=item, problem=question.problem)
    try:
        with one_item("can't be taken in"), time_limit(corpus.max_seconds):
            return _storable(_taken_in(question, corpus))
    except MediaError as error:
        return Outcome(item=item, problem=str(error))


def _taken_in(question: Question, corpus: Corpus) -> Outcome:
    item = question.item
    if not question.is_known:
        clips = clips_of(item, question.file, corpus)
        return Outcome(
            item=item,
            content_hash=question.content_hash,
            clips=clips,
            listed=question.listed,
            newcomer=None if question.listed is not None else newcomer(item, question.file, corpus),
            taken_down=question.taken_down,
            tracks=told(question.file.info().tracks),
            stamp=question.file.stamp,
            notes=(*item.notes, *question.file.take_notes()),
        )
    words, says_else = _later(question)
    return Outcome(
        item=item,
        content_hash=question.content_hash,
        words=words,
        says_else=says_else,
        stamp=question.file.stamp,
        notes=(*item.notes, *question.file.take_notes()),
    )


def _later(question: Question) -> tuple[list[LaterWords], bool]:
    """Words that clips which were taken in before did not have then; and whether they had others."""
    item, file = question.item, question.file
    if not item.is_whole:
        words = "" if question.has_text else words_beside(item, file)
        return [LaterWords(clip_id=question.clip_id, transcript=words, is_shown=False)] if words else [], False
    if item.transcript:
        return given_words(folded(item.transcript), item.cues, question.clips)
    return later_words(file, question.clips) if question.clips else [], False


def _storable(outcome: Outcome) -> Outcome:
    """The outcome, all of whose texts can be written. Raises UnicodeEncodeError: in a batch it would end all rows."""
    for clip in outcome.clips:
        for text in (clip.uri, clip.transcript, clip.sounds, *(cue.text for cue in clip.cues)):
            text.encode("utf-8")
    for later in outcome.words:
        for text in (later.transcript, *(cue.text for cue in later.cues)):
            text.encode("utf-8")
    return outcome

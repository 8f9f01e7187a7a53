"""Which questions of a benchmark are about which clips of the anchor split, and why others are not asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from flywheel.benchmark import Item, read
from flywheel.benchmark.videos import Videos
from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import Clip
from flywheel.media.probe import file_hash, probe
from flywheel.rounds.context import RoundContext

#: A clip ends with its video where its end lies so near to the video's, in seconds.
_END_S = 0.1
#: Why a question is not asked; parts of metrics' names, in which there is no apostrophe.
OPEN, UNREAD, ELSEWHERE = "it has no options", "its video is missing or broken", "its video is not of the anchor split"
PART, REJECTED = "no anchor clip has the part of the video that it is about", "its row is broken"


@dataclass(kw_only=True)
class ClipQuestions:
    """Anchor clips with the questions about them, and why (reason -> number) others are asked of none."""

    by_clip: list[tuple[Clip, list[Item]]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def asked(self) -> int:
        """How many questions are asked; one may be asked of several clips."""
        return len({item.id for _, items in self.by_clip for item in items})

    def record(self) -> dict[str, int]:
        """How many are asked, and by reason how many are not."""
        return {"asked": self.asked, **self.left_out}

    def __str__(self) -> str:
        """How many are asked and not asked, and why not, in a line."""
        why = ", ".join(f"{reason}: {count}" for reason, count in sorted(self.left_out.items()))
        return f"{self.asked} questions about {len(self.by_clip)} anchor clips" + (f"; not asked: {why}" if why else "")


def questions_of(context: RoundContext) -> ClipQuestions:
    """The questions about anchor clips: of their video, and of a part of it where a clip has all that part.

    Raises UserError where ``evaluate.questions`` or the folder of their videos can't be read.
    """
    settings = context.config.evaluate
    source = context.workspace.root / settings.questions
    beside = (source if source.is_dir() else source.parent) / "videos"
    folder = context.workspace.root / settings.question_videos if settings.question_videos else beside
    try:
        benchmark, videos = read(source, settings.question_format), Videos(folder)
    except UserError as error:
        raise UserError(f"evaluate.questions: {error}") from error
    clips: dict[str, list[Clip]] = {}
    for clip in context.split("anchor"):
        clips.setdefault(clip.content_hash, []).append(clip)
    left_out, items_of = Counter[str](), dict[str, list[Item]]()
    for item in benchmark.items:
        about, reason = _about(item, videos, clips)
        for clip in about:
            items_of.setdefault(clip.id, []).append(item)
        if reason:
            left_out[reason] += 1
    if benchmark.rejected:
        left_out[REJECTED] = len(benchmark.rejected)
    anchors = (clip for of_video in clips.values() for clip in of_video)
    return ClipQuestions(
        by_clip=[(clip, items_of[clip.id]) for clip in anchors if clip.id in items_of], left_out=left_out
    )


def _about(item: Item, videos: Videos, clips: Mapping[str, Sequence[Clip]]) -> tuple[list[Clip], str]:
    """The anchor clips that an item is about, or why it is about none. ``clips`` are anchors' by their content."""
    if not item.options:
        return [], OPEN
    try:
        file = videos.file(item)
        stamp = file.stat().st_mtime_ns
        of_video = clips.get(_hashed(file, stamp), ())
        if not of_video:
            return [], ELSEWHERE
        # A video may have been cut: a question about all of it is about a clip that is all of it.
        start_s, end_s = item.span_s or (0.0, (item.duration_s or _duration_s(file, stamp)) - _END_S)
    except (MediaError, OSError):
        return [], UNREAD
    about = [clip for clip in of_video if clip.start_s <= start_s and end_s <= clip.end_s]
    return about, "" if about else PART


@lru_cache(maxsize=65_536)
def _hashed(file: Path, _: int) -> str:
    return file_hash(file)


@lru_cache(maxsize=65_536)
def _duration_s(file: Path, _: int) -> float:
    return probe(file).duration_s

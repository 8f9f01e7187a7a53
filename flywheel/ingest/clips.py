"""Makes clips of a video file: spans, transcript, sound events, split."""

from __future__ import annotations

import math
from pathlib import Path

from flywheel.core.border import one_item
from flywheel.core.config import Corpus
from flywheel.core.constants import SPAN_GRACE_S
from flywheel.core.errors import MediaError
from flywheel.core.foreign import without_hidden
from flywheel.core.types import Clip, Split, content_id
from flywheel.formats.subtitles import cues_by_span, text_within
from flywheel.ingest.files import File
from flywheel.ingest.items import Item
from flywheel.media.audio import read_audio
from flywheel.media.scenes import scene_cuts
from flywheel.sound.events import describe, sound_events

#: At most this much of a clip's sound is described; events of an hour would drown the prompt.
_MOST_SOUND_S = 120.0


def split_of(family: str, corpus: Corpus, anchors_end: float = 0.0) -> Split:
    """The split of a family of videos. It depends on its name alone: what is added later changes nothing.

    Places up to ``anchors_end`` are of anchors where the shares end before.
    """
    place = split_place(family)
    if place < corpus.test_share:
        return "test"
    return "anchor" if place < max(anchors_end, corpus.test_share + corpus.anchor_share) else "train"


def split_place(family: str) -> float:
    """Where in [0, 1) a family lies: test comes first, then anchors, then train."""
    return int(content_id("split", family)[:12], 16) / 16**12


def clip_id(content_hash: str, start_s: float, end_s: float) -> str:
    """The id of a span of a content."""
    return content_id(content_hash, round(start_s, 4), round(end_s, 4))


def asked_clip_id(item: Item, content_hash: str) -> str:
    """The id of the clip whose times an item names; empty where it does not name its end.

    A clip that was taken in under this id lies within its file. A span that is rounded beyond its file's end becomes
    a clip with another id.
    """
    if item.end_s is None or not math.isfinite(item.end_s) or not math.isfinite(item.start_s or 0.0):
        return ""
    return clip_id(content_hash, item.start_s or 0.0, item.end_s)


def words_beside(item: Item, file: File) -> str:
    """The words of a span that its source or a side-car file gives; empty where there are none, or no end is named."""
    if item.transcript is not None:
        return folded(item.transcript)
    cues, text = file.side_car() or ([], "")
    return text_within(cues, item.start_s or 0.0, item.end_s or 0.0) if cues else text


def clips_of(item: Item, file: File, corpus: Corpus) -> list[Clip]:
    """The clips of an item's file, all on the train side. Raises MediaError with the reason where it gives none."""
    content_hash, info = file.content_hash(), file.info()
    if info.duration_s <= 0:
        raise MediaError("has no duration: no frame carries a time")
    cues, text = (list(item.cues), folded(item.transcript)) if item.transcript is not None else file.transcript()
    spans = _spans(item, info.duration_s, corpus)
    _check_number(len(spans), corpus)
    clips = []
    for (start_s, end_s), within in zip(spans, cues_by_span(cues, spans), strict=True):
        name = clip_id(content_hash, start_s, end_s)
        clips.append(
            Clip(
                id=name,
                uri=str(item.path),
                content_hash=content_hash,
                start_s=start_s,
                end_s=end_s,
                fps=info.fps,
                width=info.width,
                height=info.height,
                has_audio=info.has_audio,
                transcript=" ".join(cue.text for cue in within) if cues else text,
                sounds=_sounds(item.path, start_s, end_s) if info.has_audio else "",
                split="train",
                cues=tuple(within),
            )
        )
    return clips


def folded(text: str) -> str:
    """A transcript as it is kept: on one line, without what nobody can see."""
    return " ".join(without_hidden(text).split())


def _sounds(path: Path, start_s: float, end_s: float) -> str:
    """The span's sound events as text; empty where the sound is damaged."""
    try:
        with one_item():
            samples = read_audio(path, start_s, min(end_s, start_s + _MOST_SOUND_S))
            return describe(sound_events(samples, 16_000))
    except MediaError:
        # Damaged sound beside good pictures: the clip is worth keeping, its sound is unknown.
        return ""


def _spans(item: Item, duration_s: float, corpus: Corpus) -> list[tuple[float, float]]:
    """(start, end) in seconds of the clips. Raises MediaError for times that the item names and the file lacks."""
    if not item.is_whole:
        start_s = item.start_s or 0.0
        end_s = duration_s if item.end_s is None else item.end_s
        if not 0 <= start_s < end_s <= duration_s + SPAN_GRACE_S or not math.isfinite(start_s + end_s):
            raise MediaError(f"need 0 <= start_s < end_s <= {duration_s:g}, got [{start_s:g}, {end_s:g})")
        return [(start_s, min(end_s, duration_s))]
    if corpus.split_by != "none":
        # Before they are made: times may reach to the end of the world.
        _check_number(int(duration_s / corpus.clip_len_s), corpus)
    if corpus.split_by == "scene":
        return [
            part for scene in _scenes(item.path, duration_s, corpus) for part in _equal_parts(*scene, corpus.clip_len_s)
        ]
    if corpus.split_by == "length":
        return _fixed(duration_s, corpus)
    return [(0.0, duration_s)]


def _check_number(count: int, corpus: Corpus) -> None:
    if count > corpus.max_clips:
        raise MediaError(f"would become {count} clips, at most {corpus.max_clips} are taken (corpus.max_clips)")


def _fixed(duration_s: float, corpus: Corpus) -> list[tuple[float, float]]:
    count = max(1, math.ceil(duration_s / corpus.clip_len_s - 1e-6))
    spans = [(i * corpus.clip_len_s, min((i + 1) * corpus.clip_len_s, duration_s)) for i in range(count)]
    if len(spans) > 1 and spans[-1][1] - spans[-1][0] < corpus.min_clip_len_s:
        spans[-2:] = [(spans[-2][0], duration_s)]
    return spans


def _equal_parts(start_s: float, end_s: float, most_s: float) -> list[tuple[float, float]]:
    count = max(1, math.ceil((end_s - start_s) / most_s - 1e-6))
    step = (end_s - start_s) / count
    return [(start_s + i * step, start_s + (i + 1) * step) for i in range(count)]


def _scenes(path: Path, duration_s: float, corpus: Corpus) -> list[tuple[float, float]]:
    """(start, end) in seconds of the scenes; those too short join the one before."""
    edges = [0.0]
    for cut in scene_cuts(path):
        if cut - edges[-1] >= corpus.min_clip_len_s and duration_s - cut >= corpus.min_clip_len_s:
            edges.append(cut)
    return list(zip(edges, [*edges[1:], duration_s], strict=True))

"""From a video file to clips: probe, hash, transcript, sound events, spans, split."""

from __future__ import annotations

import math
from pathlib import Path

from flywheel.core.config import Corpus
from flywheel.core.errors import MediaError
from flywheel.core.types import Clip, Cue, Split, content_id
from flywheel.formats.subtitles import cues_within, parse_subtitles, text_within
from flywheel.ingest.sources import Item
from flywheel.store import media
from flywheel.store.sound import describe, sound_events

#: The ear listens to at most this much of a clip; events of an hour would drown the prompt.
_MOST_SOUND_S = 120.0
#: Ends given by people or other tools are rounded; this much beyond the end is meant as the end.
_GRACE_S = 0.05


def split_of(clip_id: str, corpus: Corpus) -> Split:
    """Stable: depends on the clip alone, so a clip never changes sides, whatever is added to the corpus later."""
    position = int(content_id("split", clip_id)[:12], 16) / 16**12
    if position < corpus.test_share:
        return "test"
    return "anchor" if position < corpus.test_share + corpus.anchor_share else "train"


def clips_of(item: Item, content_hash: str, corpus: Corpus) -> list[Clip]:
    """The clips of one file. Raises MediaError with the reason where it gives none."""
    info = media.probe(item.path)
    if info.duration_s <= 0:
        raise MediaError("has no duration: no frame carries a time")
    cues, text = _transcript(item, info)
    clips = []
    for start_s, end_s in _spans(item, info, corpus):
        clip_id = content_id(content_hash, round(start_s, 4), round(end_s, 4))
        sounds = ""
        if info.has_audio:
            try:
                samples = media.read_audio(item.path, start_s, min(end_s, start_s + _MOST_SOUND_S))
                sounds = describe(sound_events(samples, 16_000))
            except MediaError:
                # Damaged sound beside good pictures: the clip is worth keeping, its sound is unknown.
                sounds = ""
        clips.append(
            Clip(
                id=clip_id,
                uri=str(item.path),
                content_hash=content_hash,
                start_s=start_s,
                end_s=end_s,
                fps=info.fps,
                width=info.width,
                height=info.height,
                has_audio=info.has_audio,
                transcript=text_within(cues, start_s, end_s) if cues else text,
                sounds=sounds,
                split=split_of(clip_id, corpus),
                cues=tuple(cues_within(cues, start_s, end_s)),
            )
        )
    return clips


def _transcript(item: Item, info: media.MediaInfo) -> tuple[list[Cue], str]:
    """What the source says, else a side-car file, else the subtitles inside; timed cues where there are times."""
    if item.transcript is not None:
        return [], " ".join(item.transcript.split())
    for suffix in (".vtt", ".srt", ".txt"):
        for path in (item.path.with_suffix(suffix), item.path.with_name(item.path.name + suffix)):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if suffix == ".txt":
                return [], " ".join(text.split())
            return parse_subtitles(text), ""
    return [Cue(start_s=a, end_s=b, text=" ".join(t.split())) for a, b, t in info.subtitles], ""


def _spans(item: Item, info: media.MediaInfo, corpus: Corpus) -> list[tuple[float, float]]:
    duration_s = info.duration_s
    if item.start_s is not None or item.end_s is not None:
        start_s = item.start_s or 0.0
        end_s = duration_s if item.end_s is None else item.end_s
        if not 0 <= start_s < end_s <= duration_s + _GRACE_S or not math.isfinite(start_s + end_s):
            raise MediaError(f"need 0 <= start_s < end_s <= {duration_s:g}, got [{start_s:g}, {end_s:g})")
        return [(start_s, min(end_s, duration_s))]
    if corpus.split_by == "scene":
        return [
            part for scene in _scenes(item.path, duration_s, corpus) for part in _equal_parts(*scene, corpus.clip_len_s)
        ]
    if corpus.split_by == "length":
        return _fixed(duration_s, corpus)
    return [(0.0, duration_s)]


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
    """Cuts by scenedetect's adaptive detector; scenes too short join the one before."""
    from scenedetect import AdaptiveDetector, SceneManager, open_video

    try:
        video = open_video(str(path), backend="pyav")
        manager = SceneManager()
        manager.add_detector(AdaptiveDetector())
        manager.detect_scenes(video)
        cuts = [start.seconds for start, _ in manager.get_scene_list()[1:]]
    except Exception as error:
        # scenedetect raises what its backend raises; whatever it is, it is about this file.
        raise MediaError(f"scenes can't be detected ({error})") from error
    edges = [0.0]
    for cut in cuts:
        if cut - edges[-1] >= corpus.min_clip_len_s and duration_s - cut >= corpus.min_clip_len_s:
            edges.append(cut)
    return list(zip(edges, [*edges[1:], duration_s], strict=True))

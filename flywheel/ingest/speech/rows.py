"""Rows of recognitions and of clips' parts of them, but for their keys, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from flywheel.core.types import Clip
from flywheel.ingest.speech.words import Segment, SpokenWords, Word
from flywheel.media.choice import Track

if TYPE_CHECKING:
    from flywheel.ingest.speech.whisper import Recognition


def recognition_row(
    span_s: tuple[float, float], track: Track, found: Recognition, kept: Sequence[Segment]
) -> dict[str, Any]:
    """What was recognised in a span of a file, in seconds of the file; ``kept`` are its segments that are speech."""
    return {
        "start_s": span_s[0],
        "end_s": span_s[1],
        "track": json.dumps(asdict(track), ensure_ascii=False),
        "language": found.language,
        "language_probability": found.probability,
        "speech_s": found.speech_s,
        "cues": [_cue(segment) for segment in kept],
    }


def spoken_words(row: Mapping[str, Any]) -> SpokenWords:
    """The words of a recognition."""
    return SpokenWords([[Word(**word) for word in cue["words"]] for cue in row["cues"]])


def transcript_row(clip: Clip, recognition: Mapping[str, Any], spoken: SpokenWords) -> dict[str, Any]:
    """A clip's part of its file's recognition, whose words are ``spoken``."""
    cues = list(spoken.within(clip.start_s, clip.end_s))
    return {
        "clip_id": clip.id,
        "language": recognition["language"] if cues else "",
        "transcript": " ".join(cue.text for cue in cues),
        "cues": [asdict(cue) for cue in cues],
    }


def moved(segment: Segment, by_s: float) -> Segment:
    """The segment so many seconds later."""
    words = [
        replace(word, start_s=round(word.start_s + by_s, 3), end_s=round(word.end_s + by_s, 3))
        for word in segment.words
    ]
    return replace(segment, words=words)


def _cue(segment: Segment) -> dict[str, Any]:
    return {
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "text": segment.text,
        "mean_logprob": segment.mean_logprob,
        "no_speech": segment.no_speech,
        "words": [asdict(word) for word in segment.words],
    }

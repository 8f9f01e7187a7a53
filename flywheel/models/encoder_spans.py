"""What of a span of a video encoders look at."""

from __future__ import annotations

from flywheel.models.encoders import Embedder

#: Of longer clips and files so many seconds of sound are read, from the middle.
MOST_S = 60.0
#: Frames are read so many times as large as the encoder's squares: wide pictures are squeezed into those.
READ_SIDE = 2


def times_of(encoder: Embedder, start_s: float, end_s: float) -> list[float]:
    """The middles of as many equal parts of a span as the encoder looks at frames, seconds."""
    step = (end_s - start_s) / encoder.frames
    return [start_s + (number + 0.5) * step for number in range(encoder.frames)]


def sound_span(start_s: float, end_s: float) -> tuple[float, float]:
    """The part of a span whose sound is read."""
    beyond = max(0.0, end_s - start_s - MOST_S) / 2
    return start_s + beyond, end_s - beyond

"""Decoded frames as RGB arrays: pixels square, picture upright."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width over height of a stored pixel; 1 where the stream gives none or nonsense."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def quarter_turns(frame: av.VideoFrame) -> int:
    """By how many quarter turns the picture is to be turned to stand upright, counter-clockwise."""
    return round(frame.rotation / 90) % 4


def upright(
    frame: av.VideoFrame, aspect: float, max_side: int | None, reformatter: VideoReformatter | None = None
) -> NDArray[np.uint8]:
    """The frame as ``(H, W, 3)`` uint8 RGB, upright, its longer side at most ``max_side`` pixels."""
    width, height = max(2, round(frame.width * aspect)), frame.height
    if max_side is not None and max(width, height) > max_side:
        scale = max_side / max(width, height)
        width, height = max(2, round(width * scale)), max(2, round(height * scale))
    rgb = (reformatter or VideoReformatter()).reformat(frame, format="rgb24", width=width, height=height)
    picture: NDArray[np.uint8] = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
    turns = quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def fitted(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture ``(h, w, 3)`` as ``(height, width, 3)``: as large as it fits, black around it."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner_height, inner_width = (max(2, round(size * scale)) for size in picture.shape[:2])
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    small = np.asarray(frame.reformat(width=inner_width, height=inner_height).to_ndarray(), dtype=np.uint8)
    out = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    out[top : top + inner_height, left : left + inner_width] = small
    return out

"""Subtitles inside a file that are text: their cues from the film's first picture on, as they are written there."""

from __future__ import annotations

from typing import Any

import av
from av.subtitles.stream import SubtitleStream

from flywheel.media.choice import codec_name

#: A cue that says no length stays until the next one, and no longer than this.
_MOST_S = 10.0


class TimedText:
    """The cues of one stream, packet by packet."""

    def __init__(self, stream: SubtitleStream, origin_s: float) -> None:
        self.stream, self.index = stream, stream.index
        self._codec, self._origin_s = codec_name(stream), origin_s
        #: Start in seconds, length in seconds (0 where none is said), and text.
        self._cues: list[tuple[float, float, str]] = []

    @property
    def has_any(self) -> bool:
        """Whether there is a text."""
        return bool(self._cues)

    def add(self, packet: av.Packet[Any]) -> None:
        """Takes the next packet; one without a time or a text is passed over."""
        if packet.pts is None or packet.time_base is None:
            return
        text = "\n".join(_written(bytes(packet), self._codec).splitlines()).strip()
        start_s = float(packet.pts * packet.time_base) - self._origin_s
        length_s = float((packet.duration or 0) * packet.time_base)
        if text and (start_s >= 0 or start_s + length_s > 0):
            self._cues.append((start_s, length_s, text))

    def cues(self, end_s: float) -> tuple[tuple[float, float, str], ...]:
        """(start in seconds, end in seconds, text); ``end_s`` is where the film ends."""
        starts = [*(start for start, _, _ in self._cues[1:]), end_s]
        return tuple(
            (max(0.0, start), start + length if length > 0 else max(start, min(following, start + _MOST_S)), text)
            for (start, length, text), following in zip(self._cues, starts, strict=True)
        )


def _written(payload: bytes, codec: str) -> str:
    """The text of a packet with the marks of its format."""
    if codec == "mov_text":
        payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
        if payload.startswith((b"\xfe\xff", b"\xff\xfe")):
            return payload.decode("utf-16", errors="replace")
    if codec == "webvtt" and payload[4:8] in (b"vttc", b"vtte"):
        return _of_boxes(payload)
    text = payload.decode("utf-8", errors="replace")
    # What an event says is behind eight fields: its order, layer, style, name, three margins, effect.
    return text.split(",", 8)[-1].replace("\\N", "\n") if codec in ("ass", "ssa") else text


def _of_boxes(payload: bytes) -> str:
    """The text of WebVTT as MP4 has it: boxes of cues, each with a box of its payload."""
    texts, at = [], 0
    while at + 8 <= len(payload):
        length, name = int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 : at + 8]
        if name == b"payl":
            texts.append(payload[at + 8 : at + length].decode("utf-8", errors="replace"))
        # A cue's box is walked into, others are walked over.
        at += 8 if name == b"vttc" or length < 8 else length
    return "\n".join(texts)

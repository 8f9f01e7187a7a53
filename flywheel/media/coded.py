"""A hash of a video stream's coded pictures, which is the same in every container that they are copied into.

H.264 and HEVC lie in files in two forms: units with their length in front (MP4, Matroska), or with start codes between
them (MPEG-TS). Parameter sets, delimiters and notes move or are left out when a file is put into another container, so
only the units that hold slices of pictures count. Other codecs' packets are copied as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import av

#: Hexadecimal digits of the hash.
_DIGITS = 32
_START_CODE = b"\x00\x00\x01"


class CodedPictures:
    """The hash of the packets that were added so far."""

    def __init__(self, stream: av.VideoStream) -> None:
        context = stream.codec_context
        self._codec = context.name if context is not None else ""
        extra = bytes(context.extradata or b"") if context is not None else b""
        self._length_bytes = _length_bytes(self._codec, extra)
        self._digest, self._count = hashlib.sha256(), 0

    def add(self, packet: av.Packet[av.VideoStream]) -> None:
        """Count a packet in, in the order of decoding."""
        payload = bytes(packet)
        if self._codec not in ("h264", "hevc"):
            self._digest.update(payload)
            self._count += 1
            return
        units = _with_lengths(payload, self._length_bytes) if self._length_bytes else _with_start_codes(payload)
        for unit in units:
            if _holds_slice(self._codec, unit):
                self._digest.update(unit)
                self._count += 1

    def hexdigest(self) -> str:
        """32 hexadecimal digits; empty where there was no picture."""
        return self._digest.hexdigest()[:_DIGITS] if self._count else ""


def _length_bytes(codec: str, extra: bytes) -> int:
    """Bytes of a unit's length as the codec's configuration record says; 0 where units have start codes."""
    if not extra or extra[0] != 1:
        return 0
    place = {"h264": 4, "hevc": 21}.get(codec, len(extra))
    return (extra[place] & 3) + 1 if place < len(extra) else 0


def _with_lengths(payload: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes <= len(payload):
        size = int.from_bytes(payload[at : at + length_bytes], "big")
        at += length_bytes
        yield payload[at : at + size].rstrip(b"\x00")
        at += size


def _with_start_codes(payload: bytes) -> Iterator[bytes]:
    # Inside a unit a start code can't occur: the codecs escape it. Zeros before one belong to no unit.
    for unit in payload.split(_START_CODE)[1:]:
        yield unit.rstrip(b"\x00")


def _holds_slice(codec: str, unit: bytes) -> bool:
    if not unit:
        return False
    return 1 <= unit[0] & 31 <= 5 if codec == "h264" else (unit[0] >> 1) & 63 < 32

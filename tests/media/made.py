"""Small files of tests' own making: pictures and tones at given times, in given tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.stream import Disposition
from numpy.typing import NDArray

NO_FLAGS = Disposition(0)
#: Packets are written with times in milliseconds, except that sound counts its samples.
_BASE = Fraction(1, 1000)
_BLOCK = 960
#: What encoders of subtitles want to know of styles.
_STYLES = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n\n"
    b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)


@dataclass(kw_only=True)
class Track:
    """What becomes a stream. ``damaged`` are numbers of packets whose bytes are overwritten."""

    codec: str
    flags: Disposition = NO_FLAGS
    tags: dict[str, str] = field(default_factory=dict)
    damaged: Sequence[int] = ()
    options: dict[str, str] = field(default_factory=dict)

    def stream(self, container: Any) -> Any:
        """The stream of a container that is being written."""
        raise NotImplementedError

    def packets(self, stream: Any) -> list[Packet[Any]]:
        """All packets of the stream."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Pictures(Track):
    """Grey pictures, each brighter than the one before by ``step`` from 20 on, at these times in seconds."""

    times_s: Sequence[float]
    size: tuple[int, int] = (64, 48)
    first: int = 20
    step: int = 4
    codec: str = "libx264"
    pixels: str = "yuv420p"
    gop: int = 10

    def stream(self, container: Any) -> Any:
        stream = container.add_stream(self.codec, rate=25, options={"g": str(self.gop), **self.options})
        stream.width, stream.height = self.size
        stream.pix_fmt = self.pixels
        # MPEG-2 knows no other times than those of its rate.
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25) if "mpeg2" in self.codec else _BASE
        return stream

    def packets(self, stream: Any) -> list[Packet[Any]]:
        found = []
        for index, time_s in enumerate(self.times_s):
            picture = np.full((self.size[1], self.size[0], 3), self.first + index * self.step, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            base = stream.codec_context.time_base
            frame.pts, frame.time_base = round(time_s / base), base
            found += stream.encode(frame)
        return [*found, *stream.encode(None)]


@dataclass(kw_only=True)
class Tone(Track):
    """A tone in blocks; ``moved`` gives a packet's time in seconds for the one that it has, None leaves it out.

    ``samples`` (n,) in [-1, 1] at ``rate_hz`` take the tone's place.
    """

    seconds: float = 0.0
    samples: NDArray[np.float32] | None = None
    hz: float = 440.0
    codec: str = "pcm_s16le"
    rate_hz: int = 48_000
    layout: str = "mono"
    moved: Callable[[float], float | None] = lambda at_s: at_s

    def stream(self, container: Any) -> Any:
        stream = container.add_stream(self.codec, rate=self.rate_hz, layout=self.layout, options=self.options)
        stream.time_base = Fraction(1, self.rate_hz)
        return stream

    def packets(self, stream: Any) -> list[Packet[Any]]:
        format = stream.codec_context.format.name
        samples = self.samples
        if samples is None:
            samples = 0.5 * np.sin(2 * np.pi * self.hz * np.arange(round(self.seconds * self.rate_hz)) / self.rate_hz)
        found = []
        block = stream.codec_context.frame_size or _BLOCK
        for start in range(0, len(samples), block):
            part = np.tile(samples[start : start + block].astype(np.float32), (len(stream.layout.channels), 1))
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate_hz, start, Fraction(1, self.rate_hz)
            resampler = av.AudioResampler(format=format, layout=self.layout, rate=self.rate_hz)
            for ready in resampler.resample(frame):
                ready.pts = start
                found += stream.encode(ready)
        found += stream.encode(None)
        kept = []
        for packet in found:
            at_s = self.moved(float(packet.pts * packet.time_base))
            if at_s is not None:
                packet.pts = packet.dts = round(at_s / packet.time_base)
                kept.append(packet)
        return kept


@dataclass(kw_only=True)
class Texts(Track):
    """Subtitles: (start in seconds, length in seconds or 0 for none, text)."""

    cues: Sequence[tuple[float, float, str]]
    codec: str = "subrip"

    def stream(self, container: Any) -> Any:
        stream = container.add_stream(self.codec)
        stream.codec_context.subtitle_header = _STYLES
        stream.time_base = _BASE
        return stream

    def packets(self, stream: Any) -> list[Packet[Any]]:
        found = []
        for start_s, length_s, text in self.cues:
            packet: Packet[Any] = Packet(text.encode())
            packet.stream, packet.time_base = stream, _BASE
            packet.pts = packet.dts = round(start_s * 1000)
            packet.duration = round(length_s * 1000)
            found.append(packet)
        return found


def write(path: Path, *tracks: Track, shift_s: float = 0.0, options: dict[str, str] | None = None) -> Path:
    """Writes a file of these tracks, all times later by ``shift_s``; returns its path."""
    with av.open(str(path), "w", options=options or {}) as container:
        streams = [track.stream(container) for track in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            stream.disposition = track.flags
            stream.metadata.update(track.tags)
        ready, damaged = [], list[bytes]()
        for stream, track in zip(streams, tracks, strict=True):
            for number, packet in enumerate(track.packets(stream)):
                if number in track.damaged and "av1" in track.codec:
                    damaged.append(bytes(packet))
                elif number in track.damaged:
                    packet.update(bytes(packet)[:6] + noise(packet.size - 6))
                ticks = round(shift_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = stream
                ready.append((float(packet.dts * packet.time_base), stream.index, packet))
        for _, _, packet in sorted(ready, key=lambda item: item[:2]):
            container.mux(packet)
    content = path.read_bytes()
    for packet in damaged:
        # What can't be read is not written: it is damaged afterwards.
        tail = packet[len(packet) // 4 :]
        assert content.count(tail) == 1
        content = content.replace(tail, noise(len(tail)))
    path.write_bytes(content)
    return path


def noise(count: int) -> bytes:
    """Bytes that mean nothing."""
    return bytes((7 * i + 129) % 256 for i in range(count))


def set_edits(path: Path, track: int, edits: Sequence[tuple[float, float | None]]) -> None:
    """Give a track of an MP4, whose index is at its end, an edit list: (length, begin) in seconds; None is a pause."""
    content = bytearray(path.read_bytes())
    chain = [_box(content, 0, len(content), b"moov")]
    for name, number in ((b"trak", track), (b"edts", 0), (b"elst", 0)):
        at, length = chain[-1]
        chain.append(_box(content, at + 8, at + length, name, number))
    ticks = int.from_bytes(content[content.index(b"mvhd") + 16 :][:4])
    header = content.index(b"mdhd", chain[1][0])
    media_ticks = int.from_bytes(content[header + 16 : header + 20])
    at, length = chain[-1]
    # Where the first picture is: the list that the file has says so.
    first = max(0, int.from_bytes(content[at + 20 : at + 24], signed=True))
    entries = [
        round(seconds * ticks).to_bytes(4)
        + (-1 if begin is None else first + round(begin * media_ticks)).to_bytes(4, signed=True)
        + (1 << 16).to_bytes(4)
        for seconds, begin in edits
    ]
    content[at + 12 : at + length] = len(edits).to_bytes(4) + b"".join(entries)
    grown = 16 + 12 * len(edits) - length
    for at, length in chain:
        content[at : at + 4] = (length + grown).to_bytes(4)
    path.write_bytes(content)


def _box(content: bytes, at: int, end: int, name: bytes, number: int = 0) -> tuple[int, int]:
    """Place and length of the box of this name, the first of which is 0."""
    while at < end:
        length = int.from_bytes(content[at : at + 4])
        if content[at + 4 : at + 8] == name:
            if not number:
                return at, length
            number -= 1
        at += length
    raise ValueError(f"no {name!r}")

"""Packets and frames of a file in order, with times that go on, whatever is damaged in between.

The clock of a transport stream, or of a DVD, jumps where it wraps, where a recorder began anew, and where two files
were put together: players go on from where they were, and so do these times.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet

from flywheel.media.border import check_time, open_media
from flywheel.media.choice import film, sound_stream

#: Times that go back by more, or ahead by more, are of another clock: as FFmpeg's tools see it.
_BACK_S, _AHEAD_S = 0.1, 10.0
#: Sound that is read with a picture lies no farther from it.
_APART_S = 5.0
#: Film after which packets that wait are taken as they are: no jump came with them.
_TOLD_S = 1.0
#: Packets of sound that wait for the picture to tell whether the clock jumped.
_MOST_HELD = 2000
#: Containers without times of their own: what FFmpeg makes of them begins before the first picture.
_GUESSED = frozenset({"avi", "mpegvideo", "m4v", "h264", "hevc"})
#: Among so many packets is the first picture's.
_FIRST_PACKETS = 32
#: A file that can't be read on at some place is tried so often.
_READ_FAILURES = 3
#: Whether the clock of a file jumps, by path, size and time of change.
_jumps: OrderedDict[tuple[str, int, int], bool] = OrderedDict()
_MOST_KNOWN = 4096


class Clock:
    """Shifts the times of packets so that they go on where the film's jump; others follow the film."""

    def __init__(self, film_index: int) -> None:
        self._film = film_index
        #: What is added to times, and what was before the last jump.
        self._shift_s = self._before_s = 0.0
        #: Where the next packet of a stream is due.
        self._due: dict[int, float] = {}
        #: The film's last time, and how far it was from the one before: not all packets say their length.
        self._film_s, self._step_s = math.inf, 0.0
        #: How far sound went without a jump of its own.
        self._heard_s: float | None = None
        self._held: list[Packet[Any]] = []
        self._held_until_s = 0.0
        #: Whether a time was shifted so far.
        self.jumped = False

    def placed(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """The packets that are ready, in order, with their times set."""
        raw_s = _time_s(packet)
        if raw_s is None:
            return [packet]
        if packet.stream_index == self._film:
            is_told = self._jumps(raw_s) or raw_s + self._shift_s > self._held_until_s
            return [*(self.rest() if is_told else []), self._follow(packet, raw_s)]
        if not self._held and (self._shift_of(packet, raw_s) is not None or self._is_gap(packet, raw_s)):
            return [self._beside(packet, raw_s)]
        # The picture will tell whether the clock jumped.
        if not self._held:
            self._held_until_s = self._due.get(self._film, 0.0) + _TOLD_S
        self._held.append(packet)
        return self.rest() if len(self._held) > _MOST_HELD else []

    def rest(self) -> list[Packet[Any]]:
        """What still waits, by the clock of the film's last packet."""
        held, self._held = self._held, []
        return [self._beside(packet, _time_s(packet) or 0.0) for packet in held]

    def _jumps(self, raw_s: float) -> bool:
        """Whether the film's packet is of another clock than the one before; then all are shifted from here on."""
        at_s, due_s = raw_s + self._shift_s, self._due.get(self._film)
        if due_s is None or -_BACK_S <= at_s - due_s <= _AHEAD_S:
            return False
        if at_s > due_s and self._heard_s is not None and abs(self._heard_s - at_s) <= _APART_S:
            # Sound went on meanwhile: no picture was drawn, and the clock is the same.
            return False
        self._before_s, self._shift_s = self._shift_s, self._shift_s + due_s - at_s
        self.jumped = True
        return True

    def _is_gap(self, packet: Packet[Any], raw_s: float) -> bool:
        """Whether a packet is late, but by the film's clock."""
        at_s, film_s = raw_s + self._shift_s, self._due.get(self._film)
        return at_s > self._due[packet.stream_index] and film_s is not None and abs(at_s - film_s) <= _APART_S

    def _follow(self, packet: Packet[Any], raw_s: float) -> Packet[Any]:
        at_s = raw_s + self._shift_s
        self._due[self._film] = at_s + (_length_s(packet) or self._step_s)
        if 0 < at_s - self._film_s < _TOLD_S:
            self._step_s = at_s - self._film_s
        self._film_s = at_s
        return _shifted(packet, self._shift_s)

    def _shift_of(self, packet: Packet[Any], raw_s: float) -> float | None:
        """The shift with which a packet comes about when its stream's next is due; None where there is none."""
        due_s = self._due.get(packet.stream_index)
        if due_s is None:
            return self._shift_s
        shifts = (self._shift_s, self._before_s)
        return next((s for s in shifts if -_BACK_S <= raw_s + s - due_s <= _BACK_S), None)

    def _beside(self, packet: Packet[Any], raw_s: float) -> Packet[Any]:
        """A packet of another stream, by the clock under which it goes on."""
        shift_s = self._shift_of(packet, raw_s)
        if shift_s == self._shift_s:
            self._heard_s = raw_s + shift_s
        shift_s = self._shift_s if shift_s is None else shift_s
        self._due[packet.stream_index] = raw_s + shift_s + _length_s(packet)
        return _shifted(packet, shift_s)


def _time_s(packet: Packet[Any]) -> float | None:
    at = packet.dts if packet.dts is not None else packet.pts
    return None if at is None else float(at * packet.time_base)


def _length_s(packet: Packet[Any]) -> float:
    return float((packet.duration or 0) * packet.time_base)


def _shifted(packet: Packet[Any], shift_s: float) -> Packet[Any]:
    if shift_s:
        ticks = round(shift_s / float(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
    return packet


def packets(container: InputContainer, streams: Sequence[av.stream.Stream]) -> Iterator[Packet[Any]]:
    """The packets of these streams as they lie in the file, from where it is; empty ones end each stream.

    A file whose clock may jump must be read from its beginning (:func:`can_seek`).
    """
    picture = film(container) if may_jump(container) else None
    if picture is None:
        yield from _read(container, streams)
        return
    wanted = {stream.index for stream in streams}
    clock = Clock(picture.index)
    beside = [stream for stream in (picture, sound_stream(container)) if stream and stream.index not in wanted]
    for packet in _read(container, [*streams, *beside]):
        if packet.size:
            yield from (ready for ready in clock.placed(packet) if ready.stream_index in wanted)
            continue
        # The end of a stream, not before what waits.
        yield from (ready for ready in clock.rest() if ready.stream_index in wanted)
        if packet.stream.index in wanted:
            yield packet
    note_jumps(container, clock.jumped)


@dataclass
class Skip:
    """Packets before the first key frame from this time on, in seconds of the file's clock, are not decoded."""

    until_s: float = -math.inf

    def drops(self, packet: Packet[Any]) -> bool:
        """Whether a packet is to be left out."""
        if math.isinf(self.until_s) or not packet.size:
            return False
        at_s = _time_s(packet)
        if at_s is not None and at_s >= self.until_s and packet.is_keyframe:
            self.until_s = -math.inf
            return False
        return True


def decoded(container: InputContainer, stream: Any, skip: Skip | None = None) -> Iterator[Any]:
    """The frames of a stream; a packet that can't be decoded costs what depends on it."""
    for packet in packets(container, [stream]):
        if skip is not None and skip.drops(packet):
            continue
        try:
            frames = packet.decode()
        except FFmpegError:
            continue
        yield from frames


def _read(container: InputContainer, streams: Sequence[Any]) -> Iterator[Packet[Any]]:
    """The packets, up to where the file can't be read on."""
    failures, is_ended = 0, False
    while failures < _READ_FAILURES and not is_ended:
        try:
            for packet in container.demux(*streams):
                check_time()
                failures = 0
                yield packet
            is_ended = True
        except FFmpegError:
            failures += 1
    if not is_ended:
        for stream in streams:
            # Decoders still hold pictures that came before.
            end: Packet[Any] = Packet()
            end.stream = stream
            yield end


def origin_s(container: InputContainer, stream: av.VideoStream | None) -> float:
    """The time stamp of the film's first picture, in seconds; 0 where there is none."""
    if stream is None or not stream.time_base:
        return 0.0
    start = stream.start_time
    if start is None or container.format.name in _GUESSED:
        start = _first_pts(*_key(container), stream.index)
    return float(start * stream.time_base)


@lru_cache(maxsize=1024)
def _first_pts(name: str, _size: int, _mtime_ns: int, index: int) -> int:
    """The least time of the first packets; 0 where they have none."""
    with open_media(Path(name)) as container, contextlib.suppress(FFmpegError):
        first = islice(container.demux(container.streams[index]), _FIRST_PACKETS)
        return min((packet.pts for packet in first if packet.pts is not None), default=0)
    return 0


def may_jump(container: InputContainer) -> bool:
    """Whether files of this form may hold several clocks."""
    discontinuous: Any = Flags.ts_discont.value
    return bool(container.format.flags & discontinuous)


def can_seek(container: InputContainer) -> bool:
    """Whether a seek comes out where it should. A file whose clock may jump is read through once to know.

    In a program stream, as discs have it, FFmpeg gives pictures another one's time after a seek.
    """
    if not may_jump(container):
        return True
    if container.format.name == "mpeg":
        return False
    key = _key(container)
    if key not in _jumps:
        with open_media(Path(container.name)) as again:
            picture = film(again)
            for _ in packets(again, [picture] if picture is not None else []):
                pass
    return not _jumps.get(key, False)


def note_jumps(container: InputContainer, jumped: bool) -> None:
    """Remember whether the clock of a file jumps."""
    _jumps[_key(container)] = jumped
    while len(_jumps) > _MOST_KNOWN:
        _jumps.popitem(last=False)


def _key(container: InputContainer) -> tuple[str, int, int]:
    status = Path(container.name).stat()
    return container.name, status.st_size, status.st_mtime_ns

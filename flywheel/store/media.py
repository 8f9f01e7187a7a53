"""Video and sound by time, through PyAV: the border to FFmpeg. Times are seconds from the file's first picture.

A frame is the one on screen at the asked time (the last whose presentation time is not after it), which is right for
variable frame rates too. Pixels are square and upright: sample aspect ratio and rotation are applied.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flywheel.core.errors import MediaError

#: Beyond this distance to the next wanted time a seek is cheaper than decoding on, where nothing is known of the key frames.
_SEEK_BEYOND_S = 4.0
#: From this size on pictures are worth more than one thread each.
_LARGE_PIXELS = 1280 * 720
#: A key frame nearer than this is decoded on to: a seek empties the decoder's threads.
_SEEK_LEAST_S = 0.5
_HASH_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds. ``duration_s`` of the picture, ``fps`` its mean rate, ``width`` x ``height`` as displayed."""

    duration_s: float
    fps: float
    width: int
    height: int
    has_audio: bool
    subtitles: tuple[tuple[float, float, str], ...]


def file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_HASH_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise MediaError(f"can't be read ({error.strerror})") from error
    return digest.hexdigest()


def probe(path: Path) -> MediaInfo:
    """Facts of a file, its embedded subtitles included. Raises MediaError with the reason where it holds no video."""
    try:
        if path.stat().st_size == 0:
            raise MediaError("the file is empty (0 bytes)")
        with av.open(str(path)) as container:
            if not container.streams.video:
                kind = "only sound" if container.streams.audio else "no video stream"
                raise MediaError(f"holds {kind}")
            stream = container.streams.video[0]
            frame = next(container.decode(stream), None)
            if frame is None:
                raise MediaError("no frame can be decoded")
            height, width = _upright(frame, _aspect(stream), None).shape[:2]
            has_audio = bool(container.streams.audio)
            declared = stream.duration * stream.time_base if stream.duration and stream.time_base else None
            rate = stream.average_rate or stream.guessed_rate
        last_end_s, num_frames = _measure(path)
        duration_s = float(declared) if declared and abs(float(declared) - last_end_s) < 0.1 else last_end_s
        fps = float(rate) if rate else (num_frames / duration_s if duration_s else 1.0)
        return MediaInfo(
            duration_s=duration_s, fps=fps, width=width, height=height, has_audio=has_audio, subtitles=_subtitles(path)
        )
    except FFmpegError as error:
        raise MediaError(f"not a readable video ({error.strerror or error})") from error
    except OSError as error:
        raise MediaError(f"can't be read ({error.strerror or error})") from error


def _measure(path: Path) -> tuple[float, int]:
    """Where the last picture that is really in the file ends, by reading packets; a declared length can lie."""
    first: Fraction | None = None
    end, count = Fraction(0), 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base or Fraction(1, 1000)
        step = 1 / Fraction(stream.average_rate or 25)
        try:
            for packet in container.demux(stream):
                if packet.pts is None or packet.size == 0:
                    continue
                at = packet.pts * base
                length = packet.duration * base if packet.duration else step
                first = at if first is None else min(first, at)
                end, count = max(end, at + length), count + 1
        except FFmpegError:
            # Cut off in the middle: what came before is still a clip.
            pass
    return float(end - (first or 0)), count


def _subtitles(path: Path) -> tuple[tuple[float, float, str], ...]:
    """Cues of the first text subtitle stream that has any."""
    with av.open(str(path)) as container:
        for stream in container.streams.subtitles:
            cues = []
            for packet in container.demux(stream):
                if packet.pts is None or packet.time_base is None or packet.size == 0:
                    continue
                text = "\n".join(_cue_text(bytes(packet), stream.codec_context.name)).strip()
                start = float(packet.pts * packet.time_base)
                if text:
                    cues.append((start, start + float((packet.duration or 0) * packet.time_base), text))
            if cues:
                return tuple(cues)
            container.seek(0)
    return ()


def _cue_text(payload: bytes, codec: str) -> list[str]:
    if codec == "mov_text" and len(payload) >= 2:
        payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
    text = payload.decode("utf-8", errors="replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", 8)[-1].replace("\\N", "\n")
    return text.splitlines()


def read_frames(path: Path, times_s: Sequence[float], *, max_side: int | None = None) -> NDArray[np.uint8]:
    """Frames ``(T, H, W, 3)``, uint8 RGB, on screen at these times (ascending, seconds).

    Scaled down so that the longer side is at most ``max_side``. Raises MediaError where no frame can be had.
    """
    return np.stack(list(iter_frames(path, times_s, max_side=max_side)))


def iter_frames(path: Path, times_s: Iterable[float], *, max_side: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """As :func:`read_frames`, one by one: ``(H, W, 3)`` for each time, for more of them than memory holds."""
    if not path.exists():
        raise MediaError("the file is gone")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError("holds no video stream")
            stream = container.streams.video[0]
            # Small pictures are decoded sooner than they are handed to other threads, and clips are decoded side by side anyway.
            stream.thread_type = "AUTO" if stream.width * stream.height >= _LARGE_PIXELS else "SLICE"
            origin, aspect = _origin(stream), _aspect(stream)
            # One for the whole file: setting one up takes several times as long as using it.
            reformatter = VideoReformatter()
            decoder = container.decode(stream)
            current: av.VideoFrame | None = None
            ahead: av.VideoFrame | None = None
            picture: NDArray[np.uint8] | None = None
            for time_s in times_s:
                reached = _time(current) - origin if current is not None else -origin
                if (target := _worth_a_seek(stream, reached + origin, time_s + origin)) is not None:
                    container.seek(target, stream=stream, backward=True)
                    decoder, ahead, found = container.decode(stream), None, None
                else:
                    found = current
                while ahead is not None or (ahead := _next(decoder)) is not None:
                    if found is not None and _time(ahead) - origin > time_s + 1e-6:
                        break
                    found, ahead = ahead, None
                if found is None:
                    found = current
                if found is None:
                    raise MediaError("no frame can be decoded")
                if found is not current or picture is None:
                    current, picture = found, _upright(found, aspect, max_side, reformatter)
                yield picture
    except FFmpegError as error:
        raise MediaError(f"can't be decoded ({error.strerror or error})") from error


def _worth_a_seek(stream: av.VideoStream, reached_s: float, wanted_s: float) -> int | None:
    """Where to seek to, in the stream's time base: the last key frame at or before the wanted time, if it lies beyond what is
    decoded already. Files without an index of key frames are seeked in where the way is long."""
    base = stream.time_base
    if not base:
        return None
    target = int(wanted_s / base)
    index = stream.index_entries
    entry = index.search_timestamp(target) if len(index) else -1
    if entry >= 0:
        # An index speaks of decoding times, which lie a few frames before the pictures': what is near is decoded on to.
        ahead_s = float(index[entry].timestamp * base) - reached_s
        return target if ahead_s > _SEEK_LEAST_S else None
    return target if wanted_s - reached_s > _SEEK_BEYOND_S else None


def _origin(stream: av.VideoStream) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0


def _next(decoder: object) -> av.VideoFrame | None:
    try:
        return next(decoder, None)  # type: ignore[call-overload, no-any-return]
    except FFmpegError:
        # A damaged tail: the frames before it are good.
        return None


def _time(frame: av.VideoFrame) -> float:
    return frame.time if frame.time is not None else 0.0


def _aspect(stream: av.VideoStream) -> float:
    """Width over height of a stored pixel; 1 where the stream gives none or nonsense."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def _upright(
    frame: av.VideoFrame, aspect: float, max_side: int | None, reformatter: VideoReformatter | None = None
) -> NDArray[np.uint8]:
    width = max(2, round(frame.width * aspect))
    height = frame.height
    if max_side is not None and max(width, height) > max_side:
        scale = max_side / max(width, height)
        width, height = max(2, round(width * scale)), max(2, round(height * scale))
    rgb = (reformatter or VideoReformatter()).reformat(frame, format="rgb24", width=width, height=height)
    picture: NDArray[np.uint8] = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def read_audio(path: Path, start_s: float, end_s: float, *, rate_hz: int = 16_000) -> NDArray[np.float32]:
    """Mono samples in [-1, 1] of [start_s, end_s) at ``rate_hz``; silence where the sound ends early or is missing."""
    wanted = max(0, round((end_s - start_s) * rate_hz))
    out = np.zeros(wanted, dtype=np.float32)
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                return out
            stream = container.streams.audio[0]
            video = container.streams.video[0] if container.streams.video else None
            origin = _origin(video) if video is not None else 0.0
            if start_s > _SEEK_BEYOND_S and stream.time_base:
                container.seek(int((start_s + origin) / stream.time_base), stream=stream, backward=True)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
            position: int | None = None
            decoder = container.decode(stream)
            while (frame := _next_audio(decoder)) is not None:
                if position is None:
                    position = round(((frame.time or 0.0) - origin - start_s) * rate_hz)
                for part in resampler.resample(frame):
                    samples = part.to_ndarray()[0]
                    low, high = max(0, -position), min(len(samples), wanted - position)
                    if low < high:
                        out[position + low : position + high] = samples[low:high]
                    position += len(samples)
                if position >= wanted:
                    break
    except FFmpegError as error:
        raise MediaError(f"the sound can't be decoded ({error.strerror or error})") from error
    return out


def _next_audio(decoder: object) -> av.AudioFrame | None:
    try:
        return next(decoder, None)  # type: ignore[call-overload, no-any-return]
    except FFmpegError:
        return None


def thumbnail(frames: NDArray[np.uint8], height: int = 72) -> NDArray[np.uint8]:
    """One picture strip ``(height, W, 3)`` of first, middle and last frame."""
    chosen = frames[[0, len(frames) // 2, -1]]
    scale = height / chosen.shape[1]
    width = max(1, round(chosen.shape[2] * scale))
    rows = (np.arange(height) / scale).astype(int).clip(0, chosen.shape[1] - 1)
    columns = (np.arange(width) / scale).astype(int).clip(0, chosen.shape[2] - 1)
    small = chosen[:, rows][:, :, columns]
    return np.concatenate(list(small), axis=1)


#: Endings whose files go out as they are where a clip is the whole of one.
_PLAIN = frozenset({".mp4", ".webm", ".m4v"})


def write_clip(source: Path, start_s: float, end_s: float, out: Path) -> str:
    """Write a span of a file to ``out`` as a video of its own; returns the ending that its name should have. A whole MP4 or WebM is copied, all else becomes
    H.264 and AAC. The same span gives the same bytes. Raises MediaError for what can't be read."""
    info = probe(source)
    if source.suffix.lower() in _PLAIN and start_s <= 0.5 / info.fps and end_s >= info.duration_s - 0.5 / info.fps:
        shutil.copyfile(source, out)
        return source.suffix.lower()
    transcode(source, out, start_s=start_s, end_s=end_s, crf=20, preset="veryfast", threads=1)
    return ".mp4"


def transcode(
    source: Path, out: Path, *, start_s: float = 0.0, end_s: float = math.inf, max_side: int | None = None, crf: int, preset: str, threads: int = 0,
) -> None:  # fmt: skip
    """A span of a video as H.264 and AAC in MP4, its longer side at most ``max_side``; ``threads`` 1 gives the same bytes each time. Damaged parts are passed over.

    Raises MediaError where nothing can be read.
    """
    try:
        with (
            av.open(str(source)) as original,
            av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as copy,
        ):
            video = original.streams.video[0]
            sound = original.streams.audio[0] if original.streams.audio else None
            shown, aspect = probe(source), _aspect(video)
            scale = min(1.0, max_side / max(shown.width, shown.height)) if max_side else 1.0
            options = {"preset": preset, "crf": str(crf), **({"threads": str(threads)} if threads else {})}
            pictures = copy.add_stream("libx264", rate=video.average_rate or Fraction(25), options=options)
            pictures.width, pictures.height = (
                max(2, round(size * scale / 2) * 2) for size in (shown.width, shown.height)
            )
            pictures.pix_fmt = "yuv420p"
            # Fine enough that pictures of any rate keep their times.
            pictures.time_base = pictures.codec_context.time_base = tick = Fraction(1, 90_000)
            heard = _Heard(copy, sound, end_s - start_s) if sound is not None else None
            origin = _origin(video)
            if start_s > 5 and video.time_base:
                original.seek(int((start_s + origin) / video.time_base), stream=video)
            #: What is on screen when the span begins is its first picture, also where it was drawn before.
            shown_before: av.VideoFrame | None = None
            ended: set[str] = set()

            def draw(frame: av.VideoFrame, at: float) -> None:
                whole = frame
                if aspect != 1 or round(frame.rotation / 90) % 4:
                    # What the file says of how it is to be shown does not come along: it is done.
                    whole = av.VideoFrame.from_ndarray(_upright(frame, aspect, None), format="rgb24")
                small = whole.reformat(width=pictures.width, height=pictures.height, format="yuv420p")
                small.time_base, small.pts = tick, round(at / tick)
                copy.mux(pictures.encode(small))

            for packet in original.demux(*[s for s in (video, sound) if s is not None]):
                try:
                    frames = packet.decode()
                except FFmpegError:
                    continue  # A damaged part: what comes after can still be seen.
                for frame in frames:
                    if not isinstance(frame, av.VideoFrame | av.AudioFrame):
                        continue
                    at = (frame.time if frame.time is not None else 0.0) - origin - start_s
                    kind = "video" if isinstance(frame, av.VideoFrame) else "audio"
                    if at >= end_s - start_s:
                        ended.add(kind)
                    elif isinstance(frame, av.AudioFrame):
                        if heard is not None:
                            heard.add(frame, at)
                    elif at < -1e-4:
                        shown_before = frame
                    else:
                        if shown_before is not None and at > 1e-3:
                            draw(shown_before, 0.0)
                        shown_before = None
                        draw(frame, at)
                if "video" in ended and (sound is None or "audio" in ended):
                    break
            if shown_before is not None:
                draw(shown_before, 0.0)
            copy.mux(pictures.encode(None))
            if heard is not None:
                heard.end()
    except FFmpegError as error:
        raise MediaError(f"can't be made into a clip ({error.strerror or error})") from error
    except IndexError as error:
        raise MediaError("holds no video stream") from error


class _Heard:
    """Sound into a copy, sample by sample from the span's beginning: silence where it begins later, cut where it began before."""

    _RATE_HZ = 44_100

    def __init__(self, copy: Any, sound: av.AudioStream, seconds: float) -> None:
        self._copy, self._stream = copy, copy.add_stream("aac", rate=self._RATE_HZ, layout="stereo")
        self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=self._RATE_HZ)
        self._left = math.inf if math.isinf(seconds) else round(seconds * self._RATE_HZ)
        self._written = 0
        self._skip: int | None = None

    def add(self, frame: av.AudioFrame, at: float) -> None:
        """``at`` is the frame's time in seconds from the span's beginning."""
        if at + frame.samples / frame.sample_rate <= 0:
            return
        if self._skip is None:
            self._skip = max(0, round(-at * self._RATE_HZ))
            if at > 0:
                self._write(np.zeros((2, round(at * self._RATE_HZ)), dtype=np.float32))
        for part in self._resampler.resample(frame):
            self._take(part.to_ndarray())

    def _take(self, samples: NDArray[Any]) -> None:
        skip = min(self._skip or 0, samples.shape[1])
        self._skip = (self._skip or 0) - skip
        self._write(samples[:, skip:])

    def _write(self, samples: NDArray[Any]) -> None:
        samples = samples[:, : int(min(self._left, samples.shape[1]))]
        if not samples.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, dtype=np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = self._RATE_HZ, self._written, Fraction(1, self._RATE_HZ)
        self._written += samples.shape[1]
        self._left -= samples.shape[1]
        self._copy.mux(self._stream.encode(frame))

    def end(self) -> None:
        if self._skip is not None:
            for part in self._resampler.resample(None):
                self._take(part.to_ndarray())
        self._copy.mux(self._stream.encode(None))

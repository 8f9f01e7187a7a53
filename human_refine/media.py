"""A clip's video as a browser can play it, and its sound as a picture."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from flywheel.core.errors import MediaError
from flywheel.core.types import Clip
from flywheel.store.media import read_audio, transcode

#: What Chromium, Firefox and Safari play: by ending, the codecs of picture and sound.
_PLAYABLE = {
    ".mp4": ({"h264", "av1", "libdav1d"}, {"aac", "mp3"}),
    ".m4v": ({"h264"}, {"aac", "mp3"}),
    ".webm": ({"vp8", "vp9", "libvpx-vp9", "av1", "libdav1d"}, {"opus", "vorbis"}),
}
_PROXY_SIDE = 960
_RATE_HZ = 8_000


def playable(path: Path) -> bool:
    """Whether browsers play the file as it is. Raises MediaError where it is no video."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError("holds no video stream")
            picture = container.streams.video[0].codec_context
            sounds = {stream.codec_context.name for stream in container.streams.audio}
            pictures, known = _PLAYABLE.get(path.suffix.lower(), (set(), set()))
            return picture.name in pictures and picture.pix_fmt in ("yuv420p", "yuvj420p") and sounds <= known
    except FFmpegError as error:
        raise MediaError(f"not a readable video ({error.strerror or error})") from error
    except OSError as error:
        raise MediaError(f"can't be read ({error.strerror or error})") from error


class Proxies:
    """Browser-playable copies (H.264 and AAC in MP4, at most 960 pixels), made when first asked for and kept by content; above ``most_bytes``
    those go that were not looked at for longest."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self._lock = threading.Lock()
        self._plays: dict[str, bool] = {}

    def file(self, clip: Clip) -> Path:
        """The clip's own file, or its proxy. Raises MediaError where there is none to be had."""
        path = Path(clip.uri)
        if not path.is_file():
            raise MediaError("the file is gone")
        if clip.content_hash not in self._plays:
            self._plays[clip.content_hash] = playable(path)
        if self._plays[clip.content_hash]:
            return path
        proxy = self._folder / clip.content_hash[:2] / f"{clip.content_hash}.mp4"
        # One at a time: it takes all the cores there are.
        with self._lock:
            if not proxy.exists():
                temporary = proxy.with_suffix(".tmp.mp4")
                proxy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    transcode(path, temporary, max_side=_PROXY_SIDE, crf=26, preset="veryfast")
                    temporary.replace(proxy)
                except (MediaError, OSError) as error:
                    raise MediaError(f"can't be made playable ({error})") from error
                finally:
                    temporary.unlink(missing_ok=True)
                self._trim(proxy)
            else:
                os.utime(proxy)
        return proxy

    def _trim(self, keep: Path) -> None:
        known = sorted(((f.stat().st_mtime, f.stat().st_size, f) for f in self._folder.glob("*/*.mp4")), reverse=True)
        total = 0
        for _, size, file in known:
            total += size
            if total > self._most and file != keep:
                # Who is looking at it has it open, and keeps it.
                file.unlink(missing_ok=True)


class Waveforms:
    """Loudness of clips for drawing: peaks in [0, 1], kept for those looked at last."""

    def __init__(self, keep: int = 512) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, int], list[float]] = OrderedDict()

    def peaks(self, clip: Clip, count: int = 400) -> list[float]:
        """``count`` peaks over the clip's span; empty where it has no sound. Raises MediaError where it can't be read."""
        if not clip.has_audio:
            return []
        with self._lock:
            if (clip.id, count) in self._known:
                return self._known[clip.id, count]
        samples = np.abs(read_audio(Path(clip.uri), clip.start_s, clip.end_s, rate_hz=_RATE_HZ))
        edges = np.linspace(0, len(samples), count + 1).astype(int)
        peaks = [round(float(samples[a:b].max()) if b > a else 0.0, 3) for a, b in itertools.pairwise(edges)]
        with self._lock:
            self._known[clip.id, count] = peaks
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
        return peaks

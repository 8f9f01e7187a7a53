"""A clip's video as a browser can play it, and its sound as a picture."""

from __future__ import annotations

import itertools
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from flywheel.core.errors import BorderError, MediaError
from flywheel.core.types import Clip
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode
from flywheel.media.probe import codecs
from human_refine.making import OneByOne

#: What Chromium, Firefox and Safari play: by ending, the codecs of picture and sound.
_PLAYABLE: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    ".mp4": (frozenset({"h264", "av1", "libdav1d"}), frozenset({"aac", "mp3"})),
    ".m4v": (frozenset({"h264"}), frozenset({"aac", "mp3"})),
    ".webm": (frozenset({"vp8", "vp9", "libvpx-vp9", "av1", "libdav1d"}), frozenset({"opus", "vorbis"})),
}
#: Eight bits and halved colours: others are shown by some browsers alone.
_PIXEL_FORMATS = frozenset({"yuv420p", "yuvj420p"})
_PROXY_SIDE = 960
_PROXY_QUALITY = Quality(crf=26, preset="veryfast")
_RATE_HZ = 8_000


def playable(path: Path) -> bool:
    """Whether browsers play the file as it is. Raises MediaError where it is no video."""
    coded = codecs(path)
    pictures, sounds = _PLAYABLE.get(path.suffix.lower(), (frozenset(), frozenset()))
    is_known = coded.picture in pictures and coded.pixel_format in _PIXEL_FORMATS and coded.sounds <= sounds
    # A browser chooses streams by its own rules.
    return is_known and coded.is_plain


class Proxies:
    """Copies that browsers play (H.264 and AAC in MP4, at most 960 pixels), made when asked for and kept by content.

    They are made one after the other in a thread of their own; an hour's film takes minutes. Above ``most_bytes`` those
    go that were not looked at for longest.
    """

    def __init__(self, folder: Path, most_bytes: int, is_wanted: Callable[[Clip], bool] = lambda clip: True) -> None:
        """``is_wanted`` is asked of a clip once its copy is made: it may have been taken down meanwhile."""
        self._folder, self._most, self._is_wanted = folder, most_bytes, is_wanted
        self._plays: dict[str, bool] = {}
        self._making = OneByOne("copies")

    def file(self, clip: Clip, patience_s: float = 0.0) -> Path:
        """The clip's own file where browsers play it, else its copy.

        Raises MediaError where neither can be had, BeingMade where the copy is not there within ``patience_s``.
        """
        path = Path(clip.uri)
        if not path.is_file():
            raise MediaError("the file is gone")
        if clip.content_hash not in self._plays:
            self._plays[clip.content_hash] = playable(path)
        if self._plays[clip.content_hash]:
            return path
        proxy = self._folder / clip.content_hash[:2] / f"{clip.content_hash}.mp4"
        try:
            os.utime(proxy)
        except FileNotFoundError:
            self._making.have(clip.content_hash, partial(self._make, clip, proxy), patience_s)
        return proxy

    def _make(self, clip: Clip, proxy: Path) -> None:
        if proxy.exists():
            return
        # A name of this server's alone: another one may be making the same copy.
        temporary = proxy.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp.mp4")
        try:
            proxy.parent.mkdir(parents=True, exist_ok=True)
            transcode(Path(clip.uri), temporary, max_side=_PROXY_SIDE, quality=_PROXY_QUALITY)
            temporary.replace(proxy)
        except (MediaError, BorderError, OSError) as error:
            raise MediaError(f"can't be made playable ({error})") from error
        finally:
            temporary.unlink(missing_ok=True)
        # Not before it is in its place: a takedown in between would neither be seen here nor find it there.
        if not self._is_wanted(clip):
            proxy.unlink(missing_ok=True)
            raise MediaError("was taken down")
        self._trim(proxy)

    def _trim(self, keep: Path) -> None:
        entries = [(f.stat().st_mtime, f.stat().st_size, f) for f in self._folder.glob("*/*.mp4")]
        total = 0
        for _, size, file in sorted(entries, reverse=True):
            total += size
            if total > self._most and file != keep:
                # An open file stays readable after unlink.
                file.unlink(missing_ok=True)


class Missing:
    """Clips whose video could not be shown since the server began, and why; those asked for last."""

    def __init__(self, keep: int = 1000) -> None:
        self._keep, self._lock = keep, threading.Lock()
        self._why: OrderedDict[str, str] = OrderedDict()

    def note(self, clip_id: str, why: str) -> None:
        """Keeps why a clip can't be shown; an empty reason means that it can again."""
        with self._lock:
            self._why.pop(clip_id, None)
            if why:
                self._why[clip_id] = why
            while len(self._why) > self._keep:
                self._why.popitem(last=False)

    def all(self) -> dict[str, str]:
        """Clip id -> why it can't be shown, the last one first."""
        with self._lock:
            return dict(reversed(self._why.items()))


class Waveforms:
    """Peaks of clips' sound in [0, 1], for drawing; kept for the clips looked at last."""

    def __init__(self, keep: int = 512) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._peaks: OrderedDict[tuple[str, int], list[float]] = OrderedDict()

    def peaks(self, clip: Clip, count: int = 400) -> list[float]:
        """``count`` peaks over the clip's span; empty without sound. Raises MediaError where it can't be read."""
        if not clip.has_audio:
            return []
        with self._lock:
            if (clip.id, count) in self._peaks:
                return self._peaks[clip.id, count]
        samples = np.abs(read_audio(Path(clip.uri), clip.start_s, clip.end_s, rate_hz=_RATE_HZ))
        edges = np.linspace(0, len(samples), count + 1).astype(int)
        peaks = [round(float(samples[a:b].max()) if b > a else 0.0, 3) for a, b in itertools.pairwise(edges)]
        with self._lock:
            self._peaks[clip.id, count] = peaks
            while len(self._peaks) > self._keep:
                self._peaks.popitem(last=False)
        return peaks

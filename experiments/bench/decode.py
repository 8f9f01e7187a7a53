"""Frames of H.264 files: ours against PyAV, torchcodec and OpenCV used directly.

    python experiments/bench/decode.py [--repeats 7]

Two files are made: 10 s of 640x360 and 60 s of 1280x720, 25 fps, x264's own defaults (a key frame every 250), moving
shapes over noise. Wanted are 8 uniform frames, and all of them one by one (looked at, not kept), as RGB in full size.

Equal frames are checked first (mean difference under 3 of 255: the libraries turn YUV into RGB by other rounding); the
ways take turns. One JSON line per way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from flywheel.core.timing import uniform_times
from flywheel.media.frames import iter_frames, read_frames

Frames = Iterator[NDArray[np.uint8]]


def make(path: Path, width: int, height: int, seconds: int, fps: int = 25) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * fps):
            frame = np.roll(noise, index % width, axis=1).copy()
            x, y = (index * 7) % (width - 90), int((height - 90) * (0.5 + 0.5 * np.sin(index / 20)))
            frame[y : y + 90, x : x + 90] = (index % 256, 200, 255 - index % 256)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def pyav(path: Path, times: list[float], fps: int) -> Frames:
    """Everything decoded in order with FFmpeg's own threads, the wanted ones turned into RGB."""
    wanted = [int(t * fps + 1e-6) for t in times]
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        left = iter(wanted)
        target = next(left, None)
        for index, frame in enumerate(container.decode(video=0)):
            if index == target:
                yield frame.to_ndarray(format="rgb24")
                target = next(left, None)
                if target is None:
                    return


def pyav_seeking(path: Path, times: list[float], fps: int) -> Frames:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for t in times:
            container.seek(int(t / stream.time_base), stream=stream)
            shown = None
            for frame in container.decode(stream):
                if frame.time > t + 1e-6:
                    break
                shown = frame
            yield shown.to_ndarray(format="rgb24")


def torchcodec(threads: int) -> Callable[[Path, list[float], int], Frames]:
    def way(path: Path, times: list[float], fps: int) -> Frames:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="approximate")
        if len(times) <= 8:
            yield from decoder.get_frames_played_at(times).data.numpy()
        else:
            for frame in decoder:
                yield frame.numpy()

    return way


def opencv(path: Path, times: list[float], fps: int) -> Frames:
    import cv2

    wanted = {int(t * fps + 1e-6) for t in times}
    capture = cv2.VideoCapture(str(path))
    index, last = 0, max(wanted)
    while index <= last and capture.grab():
        if index in wanted:
            yield cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
        index += 1
    capture.release()


def ours(path: Path, times: list[float], fps: int) -> Frames:
    if len(times) <= 8:
        yield from read_frames(path, times)
    else:
        yield from iter_frames(path, times)


WAYS: dict[str, Callable[[Path, list[float], int], Frames]] = {
    "ours": ours,
    "PyAV in order": pyav,
    "PyAV seeking": pyav_seeking,
    "torchcodec, 1 thread": torchcodec(1),
    "torchcodec, own choice of threads": torchcodec(0),
    "OpenCV": opencv,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "av": av.__version__}
    with tempfile.TemporaryDirectory() as folder:
        for width, height, seconds in ((640, 360, 10), (1280, 720, 60)):
            path, fps = Path(folder) / f"{height}.mp4", 25
            make(path, width, height, seconds)
            every = [(i + 0.5) / fps for i in range(seconds * fps)]
            for what, times in (("8 frames", uniform_times(0, seconds, 8)), ("all frames", every)):
                count = repeats if what == "8 frames" else max(3, repeats // 2)
                figures(f"{what} of {seconds} s {width}x{height}", path, times, fps, count, machine)


def figures(what: str, path: Path, times: list[float], fps: int, repeats: int, machine: dict[str, Any]) -> None:
    ways, missing = dict(WAYS), {}
    if len(times) > 8:
        del ways["PyAV seeking"]
    reference = list(pyav(path, times[:8], fps))
    for name in list(ways):
        try:
            # Of many the first are compared: they are the same frames by number.
            first = [frame.copy() for frame, _ in zip(ways[name](path, times, fps), range(8), strict=False)]
        except (ImportError, OSError, RuntimeError) as error:
            missing[name] = str(error).splitlines()[0]
            del ways[name]
            continue
        apart = max(float(np.abs(a.astype(int) - b.astype(int)).mean()) for a, b in zip(first, reference, strict=True))
        if apart > 3:
            raise SystemExit(f"{what}: {name} gives other frames ({apart:.1f})")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            got = sum(int(frame[0, 0, 0] >= 0) for frame in way(path, times, fps))
            seconds[name].append(time.perf_counter() - began)
            if got != len(times):
                raise SystemExit(f"{what}: {name} gives {got} of {len(times)} frames")
    fastest = min(median(values) for name, values in seconds.items() if name != "ours")
    for name, values in seconds.items():
        low, high = np.quantile(values, [0.25, 0.75])
        line = {
            "what": what,
            "way": name,
            "seconds": round(median(values), 4),
            "quartiles": [round(low, 4), round(high, 4)],
            "n": repeats,
            "time / fastest peer": round(median(values) / fastest, 3),
            **machine,
        }
        print(json.dumps(line), flush=True)
    for name, why in missing.items():
        print(json.dumps({"what": what, "way": name, "not_measured": why[:200], **machine}), flush=True)


if __name__ == "__main__":
    main()

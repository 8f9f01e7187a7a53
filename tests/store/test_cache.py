"""The frame cache: decodes once, mends what is damaged, keeps its cap, and seldom looks at all of its files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from flywheel.store.cache import FrameCache


@pytest.fixture
def video(corpus: Path) -> Path:
    return min((corpus / "corpus").glob("*.mp4"))


class Watched(FrameCache):
    """Counts how often it looks at its files."""

    looks = 0

    def trim(self) -> None:
        self.looks += 1
        super().trim()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.npy"))


def test_the_cache_decodes_once(video: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, max_bytes=1 << 30)
    first = cache.frames(video, "h", [0.1, 0.2], 448)
    assert np.array_equal(cache.frames(video, "h", [0.1, 0.2], 448), first)
    assert (cache.decodes, cache.hits) == (1, 1)
    sound = cache.sound(video, "h", 0.0, 1.0)
    assert np.array_equal(cache.sound(video, "h", 0.0, 1.0), sound)
    assert (cache.decodes, cache.hits) == (2, 2)
    for entry in tmp_path.rglob("*.npy"):
        entry.write_bytes(b"damaged")
    assert np.array_equal(cache.frames(video, "h", [0.1, 0.2], 448), first)
    assert np.array_equal(cache.sound(video, "h", 0.0, 1.0), sound)


def test_no_damage_to_an_entrys_header_ends_a_stage(video: Path, tmp_path: Path) -> None:
    """Whatever the first bytes say, the frames are those of the video, and no memory is made for what they claim."""
    cache = FrameCache(tmp_path, max_bytes=1 << 30)
    right = cache.frames(video, "h", [0.1], 64)
    (entry,) = tmp_path.rglob("*.npy")
    content = entry.read_bytes()
    height, width = (str(n).encode() for n in right.shape[1:3])
    claims = [content.replace(b"(1, ", b"(9999999999999, ", 1)[: len(content)], content.replace(b"(1, ", b"(0, ")]
    claims += [content.replace(height + b", " + width, height + b", 9"), content.replace(b"}", b"(", 1)]
    rng = np.random.default_rng(3)
    claims += [content[:at] + bytes([255 - content[at]]) + content[at + 1 :] for at in rng.choice(128, 20)]
    for damaged in claims:
        entry.write_bytes(damaged)
        assert np.array_equal(cache.frames(video, "h", [0.1], 64), right), damaged[:128]


def test_the_least_recently_used_go_first(video: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path, max_bytes=1 << 30)
    one = cache.frames(video, "h0", [0.1], 64).nbytes
    for index in range(1, 8):
        cache.frames(video, f"h{index}", [0.1], 64)
    for age, entry in enumerate(sorted(tmp_path.rglob("*.npy"))):
        os.utime(entry, (1000 + age, 1000 + age))
    cache.frames(video, "h3", [0.1], 64)  # used again
    halves = [entry.with_name(f"x.npy.{n}.tmp") for n in range(2)]
    for half in halves:
        half.write_bytes(b"half")
    os.utime(halves[0], (1, 1))
    small = FrameCache(tmp_path, max_bytes=4 * (one + 128))
    small.trim()
    assert [half.exists() for half in halves] == [False, True], "what a killed process left goes after a day"
    halves[1].unlink()
    assert 2 * one < size(tmp_path) <= small.max_bytes
    assert small.frames(video, "h3", [0.1], 64).nbytes == one
    assert small.hits == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video for tests that write hundreds of entries: what it shows does not matter to them."""
    monkeypatch.setattr("flywheel.store.cache.read_frames", lambda *_, **__: np.zeros((1, 16, 32, 3), dtype=np.uint8))
    return Path("any.mp4")


#: Bytes of an entry of that video.
ONE = 16 * 32 * 3 + 128


def test_the_cap_is_kept_by_few_looks(quick: Path, tmp_path: Path) -> None:
    cache = Watched(tmp_path / "many", max_bytes=100 * ONE)
    for index in range(500):
        cache.frames(quick, f"h{index}", [0.1], 32)
        if index % 25 == 0:
            assert size(cache.folder) <= cache.max_bytes
    assert size(cache.folder) <= cache.max_bytes
    assert 40 <= cache.looks <= 80, "a look for each tenth of the cap, not for each write"


def test_what_others_write_counts_too(quick: Path, tmp_path: Path) -> None:
    caches = [Watched(tmp_path / "many", max_bytes=100 * ONE) for _ in range(3)]

    def write(number: int) -> None:
        for index in range(150):
            caches[number].frames(quick, f"{number} {index}", [0.1], 32)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert size(tmp_path / "many") <= 1.3 * caches[0].max_bytes, "each may be a tenth over"


def test_a_small_job_does_not_look_at_a_large_cache(quick: Path, tmp_path: Path) -> None:
    cache = Watched(tmp_path, max_bytes=1 << 30)
    for index in range(255):
        cache.frames(quick, f"h{index}", [0.1], 32)
    assert cache.looks == 0
    cache.frames(quick, "more", [0.1], 32)
    assert cache.looks == 1

"""Files whose streams and times are not the ordinary ones: which stream is taken, and when it is shown and heard."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.core.config import template
from flywheel.core.timing import uniform_times
from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from flywheel.store import Workspace
from tests.cases.checks import case

RATE_HZ = 16_000


def clips_of(folder: Path, work: Path) -> dict[str, dict[str, Any]]:
    """The clips of a case's input, ingested into a fresh workspace, by file name."""
    Workspace.create(work / "w", template())
    workspace = Workspace.open(work / "w", ["tracking.enabled=false"])
    with workspace.lock():
        result = ingest(workspace, [str(folder / "input")])
    assert result.rejected == 0, result.first_rejected
    return {Path(row["uri"]).name: row for row in workspace.clips().to_dicts()}


def loudness(samples: NDArray[np.float32], start_s: float, end_s: float) -> float:
    """Root mean square of a span."""
    return float(np.sqrt(np.mean(samples[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)] ** 2)))


def pitch_hz(samples: NDArray[np.float32]) -> float:
    """The strongest frequency."""
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * RATE_HZ / len(samples)


def differ(path: Path, duration_s: float, count: int = 8) -> bool:
    """Whether frames spread over a video differ from one another."""
    frames = read_frames(path, uniform_times(0, duration_s, count), max_side=160).astype(int)
    return all(np.abs(a - b).max() > 3 for a, b in itertools.pairwise(frames))


@case("01-edit-list")
def edit_list(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clip = clips_of(folder, work)["cut.mp4"]
    assert (clip["start_s"], clip["end_s"]) == (0, pytest.approx(2.0, abs=0.04))
    assert probe(folder / "input" / "cut.mp4").duration_s == pytest.approx(2.0, abs=0.04)
    assert differ(folder / "input" / "cut.mp4", clip["end_s"])


@case("02-cover-is-stream-0")
def cover(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clip = clips_of(folder, work)["cover.mp4"]
    assert clip["end_s"] == pytest.approx(6.0, abs=0.04)
    assert (clip["width"], clip["height"], clip["fps"], clip["has_audio"]) == (160, 120, 25.0, True)
    assert differ(folder / "input" / "cover.mp4", 6.0)
    transcode(folder / "input" / "cover.mp4", work / "copy.mp4", quality=Quality(crf=30, preset="ultrafast"))
    assert differ(work / "copy.mp4", 6.0)


@case("03-sound-first-track-has-no-decoder")
def without_decoder(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clip = clips_of(folder, work)["phone.mov"]
    assert clip["has_audio"]
    assert "440 Hz" in clip["sounds"]
    assert pitch_hz(read_audio(folder / "input" / "phone.mov", 1, 3)) == pytest.approx(440, abs=2)


@case("04-sound-with-a-hole")
def hole(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clips_of(folder, work)
    source, copy = folder / "input" / "hole.mkv", work / "copy.mp4"
    transcode(source, copy, quality=Quality(crf=30, preset="ultrafast"))
    for path in (source, copy):
        samples = read_audio(path, 0, 8)
        assert loudness(samples, 0.2, 1.8) > 0.05, path
        assert loudness(samples, 2.1, 4.9) < 0.001, path
        assert loudness(samples, 5.1, 7.9) == pytest.approx(loudness(samples, 0.2, 1.8), rel=0.05), path
    assert loudness(read_audio(source, 4.5, 8), 0.6, 3.4) > 0.05
    assert loudness(read_audio(source, 4.5, 8), 0, 0.45) < 0.001


@case("05-one-bad-packet")
def bad_packet(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    times = [0.1, *np.arange(0.35, 5.7, 0.25), 5.6]
    times = sorted(times)
    for name in ("av1.mkv", "vp9.webm"):
        bad, good = (read_frames(folder / "input" / f"{kind}_{name}", times) for kind in ("bad", "good"))
        for at, seen, right in zip(times, bad, good, strict=True):
            if at < 1.95 or at >= 3:
                assert np.array_equal(seen, right), (name, at)


@case("06-camcorder-endings")
def endings(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert set(clips_of(folder, work)) == {"00001.MTS", "clip.mp4", "movie.vob", "x.asf"}


@case("17-picture-subtitles-inside")
def picture_subtitles(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clips = clips_of(folder, work)
    for name in ("pgs.mkv", "dvb.ts"):
        assert (clips[name]["transcript"], clips[name]["cues"]) == ("", []), name
    assert clips["pgs_then_srt.mkv"]["transcript"] == "The lamp is on Up there & down"


@case("18-subtitles-and-a-late-start")
def late_start(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clip = clips_of(folder, work)["part.mkv"]
    assert clip["transcript"]
    assert [(cue["start_s"], cue["end_s"]) for cue in clip["cues"]] == [(1.0, 3.0), (4.0, 6.0)]


@case("19-forced-subtitles-first")
def forced(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert clips_of(folder, work)["film.mkv"]["transcript"] == "She opens the box and takes a key"


@case("54-containers-that-are-whole")
def whole(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clips = clips_of(folder, work)
    lengths = {"frag.mp4": 6, "nodur.webm": 6, "h264b.avi": 6, "delay0.gif": 2, "one.gif": 0.1, "wrap.ts": 6}
    for name, length_s in {**lengths, "hevc10.mp4": 6}.items():
        assert clips[name]["end_s"] == pytest.approx(length_s, abs=0.05), name
        assert name == "one.gif" or differ(folder / "input" / name, length_s), name
    assert len(clips) == 7


@case("55-sound-of-odd-shapes")
def odd_sound(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clips = clips_of(folder, work)
    assert "440 Hz" in clips["phone.mov"]["sounds"]
    assert clips["long.mp4"]["end_s"] == pytest.approx(2.0, abs=0.04)
    late = read_audio(folder / "input" / "late.mp4", 0, 6)
    assert loudness(late, 0, 2.4) < 0.001
    assert loudness(late, 2.6, 5.4) > 0.05
    assert loudness(late, 5.6, 6.0) < 0.001

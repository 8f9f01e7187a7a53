"""Clips are measured from their files: what is wrong with one is its own row, and a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import Clip
from flywheel.curation.columns import joined, sources
from flywheel.curation.evidence import _measured, measure, measure_all
from flywheel.ingest import ingest
from flywheel.media.encode import Quality, write_video
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from tests.media import made
from tests.rendered import RATE_HZ, impacts, picture, tones

_QUALITY = Quality(crf=30, preset="ultrafast", threads=1)
_SECONDS = 4.0


def write(file: Path, seed: int, *, sound: np.ndarray | None = None) -> None:
    """A clip of a bouncing ball with its own sound, or another one."""
    at_s = impacts(seed, _SECONDS)
    frames = picture(at_s, np.arange(0, _SECONDS, 1 / 15), seed, height=48, width=80)
    own = tones(at_s, seed, length_s=_SECONDS) if sound is None else sound
    colour = (np.repeat(frame[:, :, None], 3, axis=2) for frame in frames)
    write_video(file, colour, size=(80, 48), fps=15, quality=_QUALITY, sound=(own, RATE_HZ))


@pytest.fixture
def three(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> Workspace:
    """A workspace with a clip whose sound is its own, one whose sound is silent, and one that is broken since."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write(folder / "good.mp4", 1)
    write(folder / "silent.mp4", 2, sound=np.zeros(int(_SECONDS * RATE_HZ), np.float32))
    write(folder / "broken.mp4", 3)
    workspace = make_workspace("corpus.most_unreadable=1", "corpus.near_duplicates=false")
    with workspace.lock():
        ingest(workspace, [str(folder)])
    (folder / "broken.mp4").write_bytes(b"no longer a video")
    return workspace


@pytest.mark.slow
def test_what_cannot_be_read_or_told_is_a_row_and_the_rest_goes_on(three: Workspace) -> None:
    with three.lock():
        index = ClipIndex(three)
        first = measure_all(three, index, 1)
        again = measure_all(three, index, 1)
        next_round = measure_all(three, index, 2)
    assert (first.measured, first.rejected) == (2, 1)
    # Within a round what is broken is not tried again, in the next it is.
    assert (again.measured, again.rejected) == (0, 0)
    assert (next_round.measured, next_round.rejected) == (0, 1)
    rejected = three.rejected(1)
    assert rejected["stage"].to_list() == ["curate"]
    assert "holds another video" in rejected["reason"][0]
    names = three.clips().select(clip_id="id", name=pl.col("uri").str.extract(r"(\w+)\.mp4$"))
    rows = {row["name"]: row for row in joined(three, names, sources()).iter_rows(named=True)}
    assert rows["good"]["together"] > 5
    assert abs(rows["good"]["offset_s"]) < 0.04
    assert rows["good"]["shifted_together"] < 4
    assert -30 < rows["good"]["level_db"] < -10
    assert rows["silent"]["doubt"] == "no onsets"
    assert np.isnan(rows["silent"]["together"])
    assert rows["silent"]["silent"] == 1
    assert rows["broken"]["doubt"] is None
    assert three.rejected(open_only=True).height == 1
    # Mended: encoding is repeatable, so these are the same bytes.
    write(Path(rejected["uri"][0]), 3)
    with three.lock():
        assert measure(three, list(index.values()), round=3).measured == 1
    assert three.rejected(open_only=True).is_empty()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sound",
    [
        {"rate_hz": 8_000},
        {"rate_hz": 48_000, "layout": "5.1"},
        {"codec": "pcm_f32le", "rate_hz": 44_100, "layout": "stereo"},
        {"codec": "aac", "rate_hz": 22_050},
        {"rate_hz": 16_000, "moved": lambda at_s: at_s if at_s > 1.0 else None},
        {"rate_hz": 16_000, "moved": lambda at_s: at_s if at_s < 3.0 else None},
    ],
    ids=["8 kHz", "5.1", "no numbers", "aac", "begins late", "ends early"],
)
def test_sound_of_any_form_is_measured_at_its_time(tmp_path: Path, sound: dict[str, Any]) -> None:
    at_s = impacts(8, _SECONDS)
    samples = tones(at_s, 8, length_s=_SECONDS, rate_hz=sound["rate_hz"])
    if sound.get("codec") == "pcm_f32le":
        samples[::4000] = np.nan
    file = tmp_path / "clip.mkv"
    # A picture when something happens, and none between.
    made.write(file, made.Pictures(times_s=[0.0, *at_s], step=18), made.Tone(samples=samples, **sound))
    clip = Clip(
        id="a",
        uri=str(file),
        content_hash="h",
        start_s=0.0,
        end_s=_SECONDS,
        fps=25.0,
        width=64,
        height=48,
        has_audio=True,
        transcript="",
        sounds="",
        split="train",
    )
    row = _measured(clip, lambda: None).row
    assert row["doubt"] == ""
    assert abs(row["offset_s"]) < 0.03
    assert (row["damaged"] > 0) == (sound.get("codec") == "pcm_f32le")
    assert np.isfinite([row["level_db"], row["floor_db"], row["band_hz"]]).all()


@pytest.mark.slow
def test_killed_and_run_again_nothing_is_lost_or_doubled(
    tmp_path: Path, make_workspace: Callable[..., Workspace]
) -> None:
    folder, count = tmp_path / "videos", 66
    folder.mkdir()
    for seed in range(count):
        wrong = tones(impacts(seed + 500, _SECONDS), seed, length_s=_SECONDS) if seed % 3 == 0 else None
        write(folder / f"{seed:03d}.mp4", seed, sound=wrong)
    workspace = make_workspace("corpus.near_duplicates=false", "corpus.test_share=0.1", "corpus.anchor_share=0.1")
    with workspace.lock():
        ingest(workspace, [str(folder)])
    command = [sys.executable, "-m", "flywheel.cli", "curate", "--config", str(workspace.root), "--json"]
    command += ["--set", "curate.policy=quantile", "--set", "curate.value=0.66"]
    for committed in (0, 64):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Before the first clips are on record, and as soon as they are.
        time.sleep(3.0)
        while workspace.count("sounds") < committed and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert workspace.count("sounds") in (64, count)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    rows = workspace.records.read("sounds")
    assert rows.height == rows["clip_id"].n_unique() == count
    assert workspace.decisions().height == count
    assert result["kept"] + result["dropped"] == count
    assert result["to_measure"] == 0
    assert result["cost"]["seconds_per_clip"] > 0
    assert result["dropped"] == workspace.decisions().filter(~pl.col("kept")).height > 10
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["run"] == result["run"]

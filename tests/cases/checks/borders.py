"""Text from outside that reads like a model's own marks."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flywheel.store import Workspace
from tests.cases.checks import case

_ROUND = ("pretrain.num_steps=8", "pretrain.older_share=0.9", "pretrain.batch_size=2", "tracking.enabled=false")


@case("42-template-marks-in-transcripts")
def template_marks(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue("commandline")
    videos = sorted((folder / "input").glob("*.mp4"))
    for order in (videos, videos[::-1]):
        source, home = work / f"from-{order[0].stem}", work / f"w-{order[0].stem}"
        source.mkdir()
        for number, video in enumerate(order):
            (source / f"{number}.mp4").write_bytes(video.read_bytes())
            (source / f"{number}.txt").write_bytes(video.with_suffix(".txt").read_bytes())
        sets = [part for value in _ROUND for part in ("--set", value)]
        assert run("init", home) == 0
        assert run("ingest", source, "--config", home) == 0
        assert run("annotate", "--config", home, *sets) == 0
        assert run("round", "--until", "pretrain", "--config", home, *sets) == 0
        workspace = Workspace.open(home)
        clips = workspace.clips()
        asked = clips.filter(pl.col("split") != "test")["id"]
        assert clips.height == len(videos)
        assert set(workspace.annotations(round=1)["clip_id"]) == set(asked)
        assert workspace.rejected().height == 0
        assert workspace.stage(1, "pretrain")[0] == "done"
        workspace.database.close()

"""The demo, in miniature, killed at random and gone on with."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel.store import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
NUM_KILLS = 20


def demo(out: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("tiny_demo.py")), str(out)]


def summary_of(stdout: str) -> dict[str, Any]:
    """What the demo printed: nothing else stands on stdout."""
    return dict(json.loads(stdout))


def committed(out: Path) -> dict[str, str]:
    """Every committed text by its key; also: no key stands twice."""
    if not (out / "flywheel.db").exists():
        return {}
    workspace = Workspace.open(out)
    texts: dict[str, str] = {}
    for frame in (workspace.generations(), workspace.annotations()):
        assert frame["id"].is_duplicated().sum() == 0
        texts |= dict(frame.select("id", "text").iter_rows())
    assert workspace.clips()["id"].is_duplicated().sum() == 0
    assert workspace.corrections()["id"].is_duplicated().sum() == 0
    workspace.database.close()
    return texts


def published(out: Path) -> list[int]:
    """The rounds of which MLflow was told a figure, as often as it was."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("flywheel")
    [whole] = client.search_runs([experiment.experiment_id], "tags.level = 'wheel'")
    return sorted(entry.step for entry in client.get_metric_history(whole.info.run_id, "quantity/annotations"))


def test_killed_twenty_times_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(demo(whole), check=True, capture_output=True, timeout=900)
    assert published(whole) == [0, 1, 2], "each round once"
    chance = random.Random(0)
    before: dict[str, str] = {}
    kills = 0
    while kills < NUM_KILLS:
        process = subprocess.Popen(
            demo(cut), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=chance.uniform(1.0, 14.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0
            if kills < NUM_KILLS:
                # Through before its time: the rest of the kills fall on what is done already.
                process = subprocess.Popen(
                    demo(cut), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                time.sleep(chance.uniform(0.5, 6.0))
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        after = committed(cut)
        assert before.items() <= after.items(), "a committed text changed or vanished"
        before = after
    done = subprocess.run(demo(cut), check=True, capture_output=True, text=True, timeout=900)
    after = committed(cut)
    assert before.items() <= after.items()
    summary = summary_of(done.stdout)
    assert [r["num_corrections"] for r in summary["rounds"]] == [4, 4]
    one, other = Workspace.open(whole), Workspace.open(cut)
    assert set(one.annotations()["id"]) == set(other.annotations()["id"]), "the same keys as without kills"
    assert set(one.clips()["id"]) == set(other.clips()["id"])
    assert set(one.corrections()["annotation_id"]) == set(other.corrections()["annotation_id"])
    first = set(one.annotations(round=1, kind="caption")["generation_id"])
    assert first == set(other.annotations(round=1, kind="caption")["generation_id"])
    again = subprocess.run(demo(cut), check=True, capture_output=True, text=True, timeout=300)
    assert {**summary_of(again.stdout), "wall_s": 0, "peak_rss_gib": 0} == {**summary, "wall_s": 0, "peak_rss_gib": 0}
    assert committed(cut) == after

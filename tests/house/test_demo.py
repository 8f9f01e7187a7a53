"""The demo in full as a user runs it, and the wheel's path on real footage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from flywheel.store import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_the_demo_in_full(tmp_path: Path) -> None:
    """What the demo promises, on a seed that nothing was tuned on."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "flywheel.cli",
            "demo",
            "--out",
            str(tmp_path / "d"),
            "--seed",
            "71",
            "--noise",
            "0.5",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    print(json.dumps({k: summary[k] for k in ("wall_s", "peak_rss_gib")}))
    transcripts, base = (summary[k]["oracle"]["slot_f1"]["value"] for k in ("transcripts", "base"))
    f1 = [r["oracle"]["slot_f1"]["value"] for r in summary["rounds"]]
    assert base <= 0.70
    assert summary["ceiling"]["oracle"]["slot_f1"]["value"] > max(transcripts, base)
    assert (f1[-1] - transcripts) / (1 - transcripts) >= 0.5, (transcripts, base, f1)
    assert all(r["num_corrections"] <= 0.05 * summary["num_clips"] for r in summary["rounds"])
    for name in ("distinct_1", "distinct_3"):
        true = summary["truth"]["diversity"][name]["value"]
        assert abs(summary["rounds"][-1]["diversity"][name]["value"] / true - 1) <= 0.10
    assert summary["peak_rss_gib"] <= 6
    assert {"seed", "noise", "wall_s", "peak_rss_gib", "base", "transcripts", "rounds"} <= set(summary)
    workspace = Workspace.open(tmp_path / "d")
    for round in (1, 2, 3):
        test = set(workspace.clips("test")["id"])
        assert test <= set(workspace.annotations(round=round, purpose="measure")["clip_id"])
        assert not test & set(workspace.annotations(round=round, kind="caption")["clip_id"])
    check_tracking(tmp_path / "d")


def check_tracking(out: Path) -> None:
    """One parent run, a child per round, a grandchild per stage, metrics with step = round, datasets,
    report and table."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("flywheel")
    runs = client.search_runs([experiment.experiment_id])
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    ids = {r.info.run_id: r.data.tags["round"] for r in children}
    stages = {
        (ids.get(r.data.tags.get("mlflow.parentRunId", "")), r.data.tags["stage"])
        for r in runs
        if "stage" in r.data.tags
    }
    assert {("0", "evaluate"), ("1", "annotate"), ("2", "pretrain"), ("3", "gate")} <= stages
    assert sorted(r.data.tags["round"] for r in children) == ["0", "1", "2", "3"]
    history = client.get_metric_history(parents[0].info.run_id, "oracle/slot_f1")
    assert sorted({m.step for m in history}) == [0, 1, 2, 3]
    last = next(r for r in children if r.data.tags["round"] == "3")
    assert last.inputs.dataset_inputs
    assert {a.path for a in client.list_artifacts(last.info.run_id)} >= {
        "report.html",
        "report.json",
        "config.yaml",
        "samples.json",
    }


def test_real_videos_become_clips_texts_and_a_report(real_clips: Path, tmp_path: Path) -> None:
    def flywheel(*arguments: str) -> str:
        out = subprocess.run(
            [sys.executable, "-m", "flywheel.cli", *arguments],
            cwd=tmp_path / "w",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert out.returncode == 0, out.stderr
        return out.stdout

    (tmp_path / "w").mkdir()
    flywheel("init", ".")
    flywheel("ingest", str(real_clips), "--set", "tracking.enabled=false")
    flywheel(
        "annotate", "--set", "corpus.test_share=0", "--set", "corpus.anchor_share=0", "--set", "tracking.enabled=false"
    )
    page = Path(flywheel("report").strip()).read_text()
    workspace = Workspace.open(tmp_path / "w")
    assert workspace.clips().height == 5
    shown = workspace.annotations().filter(pl.col("source") == "model")
    assert shown["clip_id"].n_unique() + workspace.rejected(open_only=True).height == 5
    assert page.count("data:image/jpeg;base64,") == 5
    for text in shown["text"]:
        assert text.split()[0] in page

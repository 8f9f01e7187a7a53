"""Describers and judge are asked where curation is in doubt: by the command, killed again and again, and as hints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from annotators import prompt_file
from flywheel.core.errors import ProofFailed, UserError
from flywheel.core.types import CRITERIA, REPEATED, SHUFFLED, Annotation, content_id
from flywheel.curation.evidence import measure_all
from flywheel.ingest import ingest
from flywheel.rounds import RoundContext
from flywheel.rounds.judging import judge_in_doubt
from flywheel.store import Workspace
from tests.curation.test_curating import clip
from tests.curation.test_measuring import write
from tests.plugins import Command
from tests.rendered import impacts, tones

Make = Callable[..., Workspace]
COUNT, SILENT, CALIBRATING, AGAIN = 36, 2, 10, 4
#: Slow batches of two, committed by three: a pass takes about a second, and is killed at any place.
FAKE = "engine: fake, options: {obeys: true, batch_size: 2, seconds_per_batch: 0.03}"
ROLES = ("eyes", "ears", "judge")
SETTINGS = (
    *(f"models.{role}={{{FAKE}, price_per_million_out: 2.0}}" for role in ROLES),
    "annotate.commit_rows=3",
    "corpus.near_duplicates=false",
    "curate.judge=all",
    f"curate.calibration_clips={CALIBRATING}",
    f"curate.repeats={AGAIN}",
    "curate.policy=least",
    "curate.by=judge_contextual",
    "curate.value=3",
)
#: Forks twenty processes, one after the other, that are killed at some time or other; nothing of a workspace is open
#: when it forks.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from flywheel.rounds import RoundContext
from flywheel.rounds.judging import judge_in_doubt
from flywheel.store import Workspace

root, settings, rng, ended = Path(sys.argv[1]), sys.argv[2:], random.Random(5), 0
for number in range(20):
    ready, begun = os.pipe()
    child = os.fork()
    if not child:
        context = RoundContext(Workspace.open(root, settings))
        with context.workspace.lock():
            _ = context.clips
            os.write(begun, b".")
            judge_in_doubt(context, 1)
        os._exit(0)
    os.read(ready, 1)
    time.sleep(rng.uniform(0.05, 0.9))
    os.kill(child, signal.SIGKILL)
    ended += os.waitpid(child, 0)[1] == 0
print(ended)
"""


@pytest.fixture
def measured(tmp_path: Path, make_workspace: Make) -> Workspace:
    """A workspace of clips whose sound and picture were measured; some have no sound."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(COUNT):
        wrong = tones(impacts(seed + 500, 4.0), seed, length_s=4.0) if seed % 3 == 0 else None
        write(folder / f"{seed:03d}.mp4", seed, sound=wrong)
    workspace = make_workspace(*SETTINGS)
    with workspace.lock():
        ingest(workspace, [str(folder)])
        measure_all(workspace, RoundContext(workspace).clips, 1)
    return workspace


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_or_doubled(
    measured: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    w = measured
    settings = ["tracking.enabled=false", *SETTINGS]
    done = subprocess.run([sys.executable, "-c", KILLS, str(w.root), *settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20, "most are killed in the middle"
    options = [word for setting in settings for word in ("--set", setting)]
    assert commandline("curate", "--config", w.root, *options, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert {"kept", "dropped", "unscored", "hours", "cost"} <= result.keys()
    ids = set(w.clips()["id"])
    for kind in ("seen", "heard"):
        texts = w.annotations(round=1, kind=kind)["clip_id"]
        assert set(texts) == ids, kind
        assert len(texts) == COUNT
    records, twins = w.records, w.twins()
    assert len(twins) == CALIBRATING
    own = records.read("judgements")
    assert own.filter(~pl.col("swapped"))["clip_id"].sort().to_list() == sorted(ids)
    assert own.filter("swapped")["clip_id"].sort().to_list() == sorted(twins)[:AGAIN]
    controls = records.read("control_judgements")
    for purpose, expected in ((SHUFFLED, sorted(twins)), (REPEATED, sorted(twins)[:AGAIN])):
        assert controls.filter(pl.col("purpose") == purpose)["clip_id"].sort().to_list() == expected
    assert (own["unscored"] == "").all()
    assert (controls["unscored"] == "").all()
    made = w.generations()
    assert made["id"].n_unique() == made.height == 3 * COUNT + CALIBRATING + 2 * AGAIN
    # What it cost, over all passes, those that were killed too.
    cost, judged = result["cost"], result["judged"]
    assert cost["calls"] >= made.height
    assert cost["tokens_per_clip"] == pytest.approx(cost["tokens"] / COUNT)
    assert cost["money"] == pytest.approx(2e-6 * sum(of["tokens_out"] for of in judged["costs"].values()), rel=1e-6)
    assert judged["calls_saved"] == 0.0
    assert judged["order"]["n"] == judged["repeat"]["n"] == AGAIN
    assert judged["hearing"] is None or judged["hearing"]["ears"] == "hears"
    assert w.judgements()["p_match"].null_count() in (0, COUNT)
    # Once more: nothing is asked, nothing is added.
    assert commandline("curate", "--config", w.root, *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"] == result["run"]
    assert w.generations().height == made.height
    assert records.count("control_judgements") == controls.height

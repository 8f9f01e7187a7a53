"""Plans of larger rounds: what was measured at three sizes tells a larger one, and what is not known is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.rounds.plan import Run, fitted, planned
from flywheel.store import Workspace
from tests.plugins import Command
from tests.store.test_view import clip

ROWS = Path(__file__).resolve().parents[2] / "experiments" / "bench" / "results" / "growth-723d5b5.jsonl"


def measured(command: str) -> dict[int, float]:
    """Clips -> CPU seconds of a command as they were measured in one run of experiments/bench/growth.py."""
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    found: dict[int, float] = {}
    for row in rows:
        if row["command"] == command and "cpu_s" in row:
            found[row["size"]] = min(found.get(row["size"], row["cpu_s"]), row["cpu_s"])
    return dict(sorted(found.items()))


@pytest.mark.parametrize("command", ["annotate", "annotate-2", "round", "takedown"])
def test_three_sizes_tell_a_million_clips_within_15_percent(command: str) -> None:
    *before, (clips, seconds) = measured(command).items()
    assert clips == 1_000_000
    assert len(before) == 3
    start, each, half = fitted(before, clips)
    assert start + each * clips == pytest.approx(seconds, rel=0.15)
    assert abs(start + each * clips - seconds) <= half * (start + each * clips), "it lies outside of its own bars"


def test_a_line_is_found_and_its_bars_grow_with_the_noise() -> None:
    line = [(n, 10 + 0.5 * n) for n in (100, 200, 400)]
    assert fitted(line, 800)[:2] == pytest.approx((10, 0.5))
    noisy = [(n, s * f) for (n, s), f in zip(line, (1.05, 0.95, 1.05), strict=True)]
    assert fitted(noisy, 800)[2] > 2 * fitted(line, 800)[2]
    assert fitted([(100, 60.0)], 800) == pytest.approx((0, 0.6, 7 / 8)), "one size: from all start-up to none"
    assert fitted([(100, 60.0), (200, 60.0)], 800)[:2] == pytest.approx((60, 0)), "nothing shrinks with clips"


def test_accelerators_speed_up_passes_until_decoding_is_what_is_waited_for() -> None:
    runs = [Run(stage="annotate", clips=n, seconds=1 + 0.1 * n, decode_s=0.02 * n) for n in (100, 200, 400)]
    runs += [Run(stage="gate", clips=n, seconds=5.0) for n in (100, 200, 400)]
    stages, clips = ("annotate", "gate", "curate"), 10_000
    one, four, many = (planned(runs, stages, clips, g, decoders=1, price_per_hour=3.6) for g in (1, 4, 64))
    assert [plan.stages[0].seconds for plan in (one, four, many)] == pytest.approx([1001, 251, 201])
    assert [plan.stages[0].bound_by for plan in (one, four, many)] == ["engine", "engine", "decoding"]
    assert four.stages[0].gpu_seconds == pytest.approx(4 * 251)
    assert four.stages[0].money == pytest.approx(4 * 251 * 3.6 / 3600)
    assert many.stages[1].seconds == pytest.approx(5), "a gate is not faster on more of them"
    assert one.bottleneck.stage == "annotate"
    told = "; ".join(four.unknown)
    assert "measured on 1 accelerator(s); that 4 are as many times as fast is assumed" in told
    assert "25 times as many clips as were measured" in told
    assert "curate: was never run here, and is left out" in told


def test_the_start_is_no_more_on_more_accelerators() -> None:
    runs = [
        Run(stage="annotate", clips=n, seconds=60 + 0.1 * n / g, gpus=g) for n, g in ((1000, 1), (2000, 4), (8000, 4))
    ]
    (stage,) = planned(runs, ("annotate",), 40_000, 8).stages
    assert stage.seconds == pytest.approx(60 + 0.1 * 40_000 / 8)
    old = planned([Run(stage="annotate", clips=100, seconds=9.0, gpus=None)], ("annotate",), 100, 1)
    assert "on how many accelerators it ran is not on record" in "; ".join(old.unknown)


@pytest.mark.slow
def test_the_command_learns_from_workspaces_and_files(
    make_workspace: object, tmp_path: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    w: Workspace = make_workspace()  # type: ignore[operator]
    w.begin_round(1, ("annotate", "gate"))
    w.ledger.add_cost(1, "caption", "learn", {"written": 800, "decode_s": 10.0})
    w.ledger.add_cost(1, "caption", "measure", {"written": 200})
    w.ledger.add_cost(1, "tags", "learn", {"written": 800, "money": 3.0})
    w.set_stage(1, "annotate", "done", {"by": 0, "accelerators": 2}, 100.0)
    w.set_stage(1, "gate", "done", {"skipped": "no anchors"}, 7.0)
    lines = tmp_path / "measured.jsonl"
    lines.write_text('{"stage": "annotate", "clips": 4000, "seconds": 190, "gpus": 2}\n\n')
    asked = ("plan", "--clips", 4000, "--gpus", 1, "--config", w.root, "--json")
    assert commandline(*asked, "--measured", lines) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["stages"]["annotate"]["seconds"] == pytest.approx(310, abs=1)
    assert plan["stages"]["annotate"]["money"] == pytest.approx(3 * 4000 / 5000), "texts of all kinds cost"
    assert plan["stages"]["annotate"]["sizes"] == [1000, 4000]
    assert plan["low"] < plan["seconds"] < plan["high"]
    assert plan["bottleneck"]["stage"] == "annotate"
    w.add_clips([clip(1)])
    assert commandline("plan", "--config", w.root) == 0
    told = capsys.readouterr().out
    assert told.startswith("A round of 1 clips")
    assert "money" in told.splitlines()[2]
    for line in ('"size": 2000', '"clips": "2000", "seconds": 1', '"clips": 2000, "seconds": NaN'):
        lines.write_text(f'{{"stage": "annotate", {line}}}\n')
        assert commandline(*asked, "--measured", lines) == 2
        assert "line 1 is no measured stage" in capsys.readouterr().err
    assert commandline(*asked, "--measured", tmp_path / "nothing") == 2

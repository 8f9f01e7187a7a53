"""A run of curation in a workspace: decisions on record, what a round learns from, a lead's word, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Clip
from flywheel.curation import evidence
from flywheel.curation.curating import Curated, curate
from flywheel.curation.evidence import Measured, record_id
from flywheel.rounds import RoundContext
from flywheel.rounds.progress import order_of
from flywheel.rounds.stages import curate as curate_stage
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.columns import SCHEMAS
from flywheel.store.sources import note_removed
from tests.plugins import Command

COUNT = 120
_WRONG = 40


def clip(number: int) -> Clip:
    split: Any = "test" if number % 10 == 1 else "anchor" if number % 10 == 2 else "train"
    return Clip(
        id=f"{number:020x}",
        uri=f"/nowhere/{number}.mp4",
        content_hash=f"{number // 2:064x}",
        start_s=0.0,
        end_s=36.0,
        fps=25.0,
        width=64,
        height=36,
        has_audio=True,
        transcript="",
        sounds="",
        split=split,
    )


def sounds(number: int) -> dict[str, Any]:
    """A clip's record: those from 80 on do not match, each thirtieth can't be told."""
    rng = np.random.default_rng(number)
    row: dict[str, Any] = {name: 0.1 for name, kind in SCHEMAS["sounds"].items() if kind == pl.Float32}
    untold = number % 30 == 0
    matches = number < COUNT - _WRONG
    together = rng.normal(7 if matches else 1, 1)
    row |= {"together": together, "contrast": max(together, rng.normal(3.5, 0.5))}
    for pair in ("shuffled", "shifted"):
        row |= {f"{pair}_together": rng.normal(1, 1), f"{pair}_contrast": rng.normal(4, 0.5)}
    if untold:
        row |= dict.fromkeys((name for name in row if "together" in name or "contrast" in name), float("nan"))
    row |= {"id": record_id(f"{number:020x}"), "clip_id": f"{number:020x}", "print_a": None, "print_b": None}
    return {**row, "doubt": "still picture" if untold else "", "offset_s": float("nan"), "seconds": 0.05}


@pytest.fixture
def measured(make_workspace: Callable[..., Workspace]) -> Workspace:
    """A workspace whose clips were measured: a third does not match."""
    workspace = make_workspace("curate.enabled=true")
    with workspace.lock():
        workspace.add_clips([clip(number) for number in range(COUNT)])
        workspace.add_sounds([sounds(number) for number in range(COUNT)])
    return workspace


def decided(workspace: Workspace, **settings: Any) -> Curated:
    config = workspace.config.curate.model_copy(update=settings)
    with workspace.lock():
        return curate(workspace, ClipIndex(workspace), config, Measured())


def test_the_wrong_ones_are_dropped_of_the_train_clips_alone(measured: Workspace) -> None:
    result = decided(measured)
    rows = measured.decisions()
    assert rows.columns == ["clip_id", "kept", "score", "reason"]
    assert rows.height == COUNT
    assert result.kept + result.dropped == COUNT
    dropped = {int(clip_id, 16) for clip_id in rows.filter(~pl.col("kept"))["clip_id"]}
    assert {clip(number).split for number in dropped} == {"train"}
    wrong = {n for n in range(COUNT - _WRONG, COUNT) if clip(n).split == "train" and n % 30}
    assert len(dropped & wrong) >= 0.9 * len(wrong)
    assert len(dropped - wrong) <= 3
    assert result.unscored == 4
    assert result.doubts == {"still picture": 4}
    assert sum(result.would_drop.values()) >= 6
    assert result.hours == pytest.approx(result.kept * 0.01, rel=1e-4)
    assert result.calibration["share_matched"]["value"] == pytest.approx(2 / 3, abs=0.12)


@pytest.mark.slow
def test_a_round_leaves_out_clips_of_sources_that_it_does_not_use(measured: Workspace) -> None:
    gone = {clip(number).content_hash for number in range(0, COUNT, 6)}
    known = measured.records.read("clips", columns=["id", "content_hash"])
    of_gone = set(known.filter(pl.col("content_hash").is_in(sorted(gone)))["id"])
    with measured.lock():
        note_removed(measured, gone, "/videos", "r", from_round=1)
        measured.begin_round(1, ("curate", "gate"))
        result = curate_stage.STAGE.run(RoundContext(measured), 1)
    assert len(of_gone) >= COUNT // 3
    assert result.kept + result.dropped == COUNT - len(of_gone)
    assert not of_gone & set(measured.decisions()["clip_id"])


@pytest.mark.slow
def test_by_hand_too_clips_of_removed_sources_are_left_out(
    measured: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*options: str, code: int = 0) -> str:
        capsys.readouterr()
        assert commandline("curate", "--config", measured.root, "--dry-run", *options) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    with measured.lock():
        measured.add_clips([clip(COUNT)])
    whole = json.loads(said("--json"))
    assert (whole["kept"] + whole["dropped"], whole["to_measure"]) == (COUNT + 1, 1)
    contents = [clip(number).content_hash for number in range(COUNT + 1)]
    with measured.lock():
        note_removed(measured, set(contents[:40]), "/videos", "r", from_round=1)
    rest = json.loads(said("--json"))
    assert (rest["kept"] + rest["dropped"], rest["to_measure"]) == (COUNT + 1 - 40, 1)
    with measured.lock():
        note_removed(measured, set(contents), "/videos", "r", from_round=1)
    assert "flywheel sources remove --undo" in said(code=2)


@pytest.mark.slow
def test_the_same_run_again_adds_nothing_another_is_in_force_and_takedowns_take_all(measured: Workspace) -> None:
    first = decided(measured)
    count = measured.count("decisions")
    assert decided(measured).run == first.run
    assert measured.count("decisions") == count
    other = decided(measured, policy="quantile", value=0.5)
    assert other.run != first.run
    assert measured.decisions()["kept"].sum() == other.kept
    # And back: what is there already is put in force again.
    assert decided(measured).run == first.run
    assert measured.decisions()["kept"].sum() == first.kept
    assert measured.count("decisions") == 2 * count
    with measured.lock():
        measured.add_clip_verdict(f"{7:020x}", kept=False, reason="x")
        removed = measured.takedowns.remove_records([f"{7:020x}"])
    assert (removed["sounds"], removed["decisions"], removed["verdicts"]) == (1, 2, 1)
    assert measured.decisions().height == COUNT - 1


@pytest.mark.slow
def test_a_round_learns_from_what_its_own_stage_kept_and_reports_it(measured: Workspace) -> None:
    from flywheel.rounds import RoundContext
    from flywheel.rounds.export_rows import DatasetRows, ExportCounts
    from flywheel.rounds.publish import flatten, report_of
    from flywheel.rounds.report import write_report
    from flywheel.rounds.stages import to_record

    context = RoundContext(measured)
    whole = len(context.split("train"))
    assert order_of(measured, 1)[0] == "curate"
    result = decided(measured)
    # A run by hand changes nothing of the round under way.
    assert len(context.split("train")) == whole
    with measured.lock():
        measured.begin_round(1, order_of(measured, 1))
        measured.set_stage(1, "curate", "done", to_record(result))
    assert len(context.split("train")) == whole - result.dropped
    assert len(context.split("test", "anchor")) == 24
    gone = set(measured.decisions().filter(~pl.col("kept"))["clip_id"])
    assert not gone & {c.id for c in context.split("train", "test", "anchor")}
    assert decided(measured, policy="quantile", value=0.1).run != result.run
    assert len(context.split("train")) == whole - result.dropped
    report = report_of(context, 1)
    folder = write_report(context, [report])
    page = (folder / "report.html").read_text()
    assert [file.name for file in (folder / "curation").iterdir()] == ["charts.png"], "and no clip that can't be read"
    assert f"{result.kept} clips kept" in page
    assert "would have gone" in page
    assert page.count("<tr><td>0.") >= 9 + 20
    assert "Some that were dropped" in page
    assert "seconds per clip kept" in page
    assert "no video: " in page
    assert flatten(report)["curate/kept"] == result.kept
    assert curate_stage.figures(Curated()) == {}
    # What is taken away leaves them out too.
    counts = ExportCounts()
    assert list(DatasetRows(measured, measured.config, 1, ("train", "test"), counts, with_cues=False)) == []
    assert counts.left_out == {
        "that curation dropped": result.dropped,
        "without a text": COUNT - result.dropped - sum(clip(number).split == "anchor" for number in range(COUNT)),
    }


def test_an_old_workspace_goes_on_as_before(make_workspace: Callable[..., Workspace]) -> None:
    plain = make_workspace(name="plain")
    assert order_of(plain, 1) == plain.config.rounds.stages
    assert "curate" not in plain.config.stages
    on = make_workspace("curate.enabled=true", name="plain")
    assert on.config.stages == ("curate", *plain.config.rounds.stages)
    with plain.lock():
        plain.begin_round(1, plain.config.stages)
    # Switched on meanwhile: the round that began has the stages that it began with.
    assert order_of(on, 1) == plain.config.rounds.stages
    placed = make_workspace("curate.enabled=true", "rounds.stages=[annotate, curate, evaluate, gate]", name="plain")
    assert placed.config.stages == ("annotate", "curate", "evaluate", "gate")


@pytest.mark.slow
def test_dry_runs_and_bad_policies_change_nothing(
    measured: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commandline("curate", "--config", measured.root, "--dry-run", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["dropped"] > 10
    assert {"kept", "dropped", "unscored", "hours", "cost"} <= result.keys()
    assert result["to_measure"] == 0
    for settings, said in (
        ({"policy": "least", "value": 2.0, "unscored": "drop"}, "leaves no train clip"),
        ({"policy": "least", "by": "loudness"}, r"curate\.by: there is no column 'loudness'. There are .*level_db"),
        ({"limits": {"nothing": (None, 1.0)}}, r"curate\.limits: there is no column 'nothing'"),
    ):
        with pytest.raises(UserError, match=said) as error:
            decided(measured, **settings)
        assert error.value.exit_code == 2
    assert measured.decisions().is_empty()


@pytest.mark.slow
def test_what_a_lead_says_wins_and_is_explained(
    measured: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = f"{5:020x}", f"{COUNT - 5:020x}"
    config = ("--config", measured.root)
    assert commandline("curate", *config, "--drop", good) == 2
    assert "need --reason" in capsys.readouterr().err
    assert commandline("curate", *config, "--drop", good, "--reason", "a watermark") == 0
    with measured.lock():
        measured.add_clip_verdict(bad, kept=True, reason="rare")
    decided(measured)
    rows = {row["clip_id"]: row for row in measured.decisions().iter_rows(named=True)}
    assert (rows[good]["kept"], rows[good]["reason"]) == (False, "dropped by a lead: a watermark")
    assert (rows[bad]["kept"], rows[bad]["reason"]) == (True, "kept by a lead: rare")
    # The last word stands.
    with measured.lock():
        measured.add_clip_verdict(good, kept=True, reason="after all")
    decided(measured)
    capsys.readouterr()
    assert commandline("curate", *config, "--explain", good, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] is True
    assert told["lead"]["reason"] == "after all"
    assert told["together"] == pytest.approx(sounds(5)["together"], rel=1e-5)
    assert told["offset_s"] is None


@pytest.mark.slow
def test_too_few_pairs_stop_a_policy_by_probability_alone(
    make_workspace: Callable[..., Workspace], commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace()
    assert commandline("curate", "--config", workspace.root, "--dry-run") == 2
    assert "no clips yet" in capsys.readouterr().err
    with workspace.lock():
        workspace.add_clips([clip(number) for number in range(20)])
    assert commandline("curate", "--config", workspace.root, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("20 clips are not measured yet")
    with workspace.lock():
        workspace.add_sounds([sounds(number) for number in range(20)])
    with pytest.raises(UserError, match=r"P\(match\) needs 30"):
        decided(workspace)
    result = decided(workspace, policy="least", by="level_db", value=0.0)
    assert (result.kept, result.calibration) == (20, {})


def test_measures_of_another_version_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = record_id("a")
    monkeypatch.setattr(evidence, "VERSION", evidence.VERSION + 1)
    assert record_id("a") != before

"""Gate, champion, rollback: what is judged by figures, and what lies on disk and in the database after it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from flywheel.core.config import Gate, template
from flywheel.core.errors import BorderError, UserError
from flywheel.core.types import Correction, Estimate, Preference, content_id
from flywheel.ingest import ingest
from flywheel.metrics.paired import items_needed, level_of_look, paired_test
from flywheel.rounds import RoundContext, champion, run_round
from flywheel.rounds.gate import Candidate, judge
from flywheel.rounds.stages import annotate as annotate_stage
from flywheel.rounds.stages import gate as gate_stage
from flywheel.rounds.texts import CurrentTexts
from flywheel.status import comparison_text
from flywheel.store import Workspace
from human_refine.gold import add_gold
from human_refine.people import exclude
from tests.rounds.test_rounds import correct

Make = Callable[..., Workspace]
SETTINGS = (
    "annotate.engine=fake",
    "pretrain.num_steps=0",
    "finetune.num_steps=0",
    "evaluate.agreement_pairs=0",
    "evaluate.resamples=100",
    "corpus.anchor_share=0.5",
    "corpus.test_share=0.1",
    "gate.min_anchors=8",
    "tracking.enabled=false",
)


# -- figures -----------------------------------------------------------------------------------------------------------


def test_few_items_are_tested_exactly() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.3, 1, 9)
    found = paired_test(d.tolist(), [0.0] * 9)
    null = [float(np.mean(d * signs)) for signs in itertools.product((1, -1), repeat=9)]
    assert found.p_better == pytest.approx(np.mean([v >= d.mean() - 1e-12 for v in null]))
    assert found.p_worse == pytest.approx(np.mean([v <= d.mean() + 1e-12 for v in null]))


def test_what_is_equal_says_nothing_and_ties_change_nothing() -> None:
    assert paired_test([0.5] * 20, [0.5] * 20).p_better == 1
    d = [0.1, 0.2, -0.1, 0.3, 0.2, 0.4]
    assert paired_test([*d, 0, 0, 0], [0.0] * 9).p_better == paired_test(d, [0.0] * 6).p_better
    assert paired_test([], []).p_better == 1
    with pytest.raises(ValueError, match="equally many"):
        paired_test([1.0], [])


@pytest.mark.parametrize("equal", [0, 40])
def test_one_text_that_differs_proves_nothing(equal: int) -> None:
    better = paired_test([0.9, *[0.5] * equal], [0.4, *[0.5] * equal])
    assert (better.p_better, better.p_worse) == (0.5, 1.0)
    worse = paired_test([0.4, *[0.5] * equal], [0.9, *[0.5] * equal])
    assert (worse.p_better, worse.p_worse) == (1.0, 0.5)


def test_clips_of_one_video_are_one_item() -> None:
    """Forty clips of four videos prove no more than four videos can."""
    assert paired_test([1.0] * 40, [0.0] * 40).p_better < 1e-3
    assert paired_test([1.0] * 40, [0.0] * 40, [i // 10 for i in range(40)]).p_better == pytest.approx(1 / 16)


def test_not_worse_is_held_to_the_level_of_its_look() -> None:
    """At each of many looks an interval of 95 % alone would promote a candidate that is worse once in forty."""
    gains = np.random.default_rng(3).normal(0.012, 0.06, 150)
    candidate = replace(figures(0.7, 0.7), after=(0.7 + gains).tolist(), before=[0.7] * 150, groups=list(range(150)))
    settings = Gate(require="not_worse", margin=0.0, effect=0.02)
    early, late = (judge(candidate, settings, look=look) for look in (1, 20))
    assert early.verdict == "promoted"
    assert late.test is not None
    assert late.test.difference.low > 0, "its interval alone would do"
    assert late.verdict != "promoted"


@pytest.mark.slow
def test_levels_of_all_looks_sum_to_alpha() -> None:
    assert sum(level_of_look(0.05, look) for look in range(1, 100_000)) == pytest.approx(0.05, abs=1e-6)
    with pytest.raises(ValueError, match="from 1 on"):
        level_of_look(0.05, 0)


@pytest.mark.parametrize(
    ("effect", "spread", "level", "power"), [(0.05, 0.15, 0.025, 0.9), (0.5, 1.0, 0.05, 0.8), (0.3, 0.1, 0.01, 0.9)]
)
def test_items_needed_are_the_least(effect: float, spread: float, level: float, power: float) -> None:
    n = items_needed(effect, spread, level, power)

    def reached(n: int) -> float:
        return float(stats.nct.sf(stats.t.isf(level, n - 1), n - 1, effect * n**0.5 / spread))

    assert reached(n) >= power
    assert n == 2 or reached(n - 1) < power


def figures(after: float, before: float, n: int = 40, **more: Any) -> Candidate:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, n)
    return Candidate(
        after=list(after + noise), before=[before] * n, groups=list(range(n)), refiners=frozenset({"ann"}), **more
    )


@pytest.mark.parametrize(
    ("candidate", "settings", "verdict", "says"),
    [
        (figures(0.8, 0.7), {}, "promoted", "better on 40 anchors"),
        (figures(0.7, 0.7), {}, "refused", "not shown to be better"),
        (figures(0.7, 0.7), {"effect": 0.005}, "undecided", "more anchors"),
        (figures(0.6, 0.7), {}, "refused", "worse on 40 anchors"),
        (figures(0.7, 0.7), {"require": "not_worse", "margin": 0.02}, "promoted", "not worse than 0.02"),
        (figures(0.67, 0.7), {"require": "not_worse", "margin": 0.02}, "refused", "worse"),
        (figures(0.8, 0.7, n=7), {}, "undecided", "can't tell yet: 7 of at least 8 anchor videos"),
        (figures(0.8, 0.7, n=0), {}, "undecided", "can't tell yet: 0 of at least 8"),
        (figures(0.8, 0.7, n=0, possible=3), {}, "undecided", "the corpus has only 3, so no round can ever pass"),
        (figures(0.8, 0.7, n=0), {"untested": "promote"}, "promoted", "promoted without a test"),
        (figures(0.8, 0.7, rejected=0.2), {}, "refused", "20.0% of its texts were rejected"),
        (figures(0.8, 0.7, cost=4.0), {}, "refused", "4.00 times the champion's tokens"),
        (figures(0.8, 0.7, stale="adapter"), {}, "refused", "other weights than lie there now (adapter)"),
        (figures(0.8, 0.7), {"min_refiners": 2}, "undecided", "come from ann alone, 2 reviewers"),
        (figures(0.8, 0.7, suspects={"eve": "had 0 of 9 gold items right"}), {}, "undecided", "eve had 0 of 9"),
        (figures(0.8, 0.7, diversity=Estimate(value=-0.2, low=-0.25, high=-0.15, n=20)), {}, "refused", "less diverse"),
        (figures(0.8, 0.7, diversity=Estimate(value=-0.2, low=-0.25, high=-0.15, n=3)), {}, "promoted", "better"),
    ],
)
def test_judgement(candidate: Candidate, settings: dict[str, Any], verdict: str, says: str) -> None:
    found = judge(candidate, Gate(**settings), 1)
    assert (found.verdict, says in found.reason) == (verdict, True), found.reason
    assert json.loads(json.dumps(found.record()))["verdict"] == verdict


def test_a_later_look_needs_more() -> None:
    d = 0.036 + 0.1 * stats.norm.ppf((np.arange(40) + 0.5) / 40)
    candidate = replace(figures(0, 0), after=list(0.5 + d), before=[0.5] * 40)
    assert 0.001 < paired_test(candidate.after, candidate.before).p_better < 0.025
    assert judge(candidate, Gate(), 1).verdict == "promoted"
    assert judge(candidate, Gate(), 9).verdict != "promoted"


# -- a workspace -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A wheel of the fake engine whose first round has texts, with anchors that a person has put right;
    each test works on a copy."""
    folder = tmp_path_factory.mktemp("prepared") / "w"
    Workspace.create(folder, template())
    w = Workspace.open(folder, [*SETTINGS])
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    context = RoundContext(w)
    run_round(context, until="annotate")
    for clip in context.split("anchor"):
        correct(context, clip.id, f"What is in {clip.id} for all to see.")
    w.database.close()
    return folder


@pytest.fixture
def context(prepared: Path, make_workspace: Make, tmp_path: Path) -> RoundContext:
    shutil.copytree(prepared, tmp_path / "w", ignore=shutil.ignore_patterns("cache"))
    return RoundContext(make_workspace(*SETTINGS))


def says(context: RoundContext, round: int, right: float) -> None:
    """Let a round have an evaluated model whose texts of the anchors are right in this share of the clips."""
    w = context.workspace
    anchors = context.split("anchor")
    one = CurrentTexts(w).captions(1)[anchors[0].id]
    rows = []
    for place, c in enumerate(sorted(anchors, key=lambda c: c.id)):
        text = (
            f"What is in {c.id} for all to see."
            if place < right * len(anchors)
            else f"Nothing of the kind, said {round}."
        )
        rows.append(
            replace(
                one,
                id=content_id(round, "evaluation", c.id),
                round=round,
                purpose="measure",
                clip_id=c.id,
                text=text,
                generation_id="",
            )
        )
    w.add_annotations(rows, round)
    w.model_folder(round).mkdir(parents=True, exist_ok=True)
    for stage in ("annotate", "review", "pretrain", "finetune", "evaluate"):
        w.set_stage(round, stage, "done", {"by": w.champion()} if stage == "annotate" else {})


@pytest.mark.slow
def test_only_what_is_better_takes_the_place_and_back_again(context: RoundContext) -> None:
    w = context.workspace
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    assert gate_stage.run(context, 1).verdict == "promoted"
    says(context, 2, 0.9)
    again = gate_stage.run(context, 2)
    assert again.verdict in ("refused", "undecided")
    assert (w.champion(), w.lineage()) == (1, [0, 1])
    assert champion.promote(context, 2) is not None, "asked once more it says the same"
    assert (w.champion(), w.ledger.looks(1)[0][0]) == (1, 2)
    assert len(w.ledger.looks(1)) == 1, "which is no second look"
    assert champion.promote(context, 2, "for the demo of friday") is None
    row = w.champions()[-1]
    assert (w.champion(), row["reason"], row["forced"]) == (2, "forced: for the demo of friday", True)
    with pytest.raises(UserError, match="champion already"):
        champion.promote(context, 2)
    with pytest.raises(UserError, match="no evaluated model"):
        champion.promote(context, 7)
    assert champion.rollback(context) == 1
    assert (w.champion(), w.lineage(), w.retired()) == (1, [0, 1], {2})
    assert champion.rollback(context) == 0
    with pytest.raises(UserError, match="already on the base model"):
        champion.rollback(context)
    assert [r["action"] for r in w.champions()] == ["promote", "promote", "rollback", "rollback"], (
        "every step is on record"
    )


def choose(context: RoundContext, newer: int, count: int, refiner: str = "ann", older: int = 0) -> None:
    """Let a person choose a round's texts of so many anchors over an older one's, which are on the left."""
    at = datetime.now(UTC)
    anchors = sorted(c.id for c in context.split("anchor"))[:count]
    rows = [
        Preference(
            id=f"{refiner}{n}",
            clip_id=clip_id,
            first_id=content_id(older, "evaluation", clip_id),
            second_id=content_id(newer, "evaluation", clip_id),
            chosen="second",
            refiner=refiner,
            left="first",
            seconds=5.0,
            at=at,
        )
        for n, clip_id in enumerate(anchors)
    ]
    context.workspace.add_preferences(rows)


@pytest.mark.slow
def test_what_people_prefer_is_promoted_though_its_words_are_others(
    prepared: Path, make_workspace: Make, tmp_path: Path
) -> None:
    shutil.copytree(prepared, tmp_path / "w", ignore=shutil.ignore_patterns("cache"))
    context = RoundContext(make_workspace(*SETTINGS, "gate.measures=[preference, token_f1]", "gate.alpha=0.4"))
    w, count = context.workspace, len(context.split("anchor"))
    says(context, 0, 0.9)
    says(context, 1, 0.2)
    assert "preference" not in champion.compare(context, 0, 1)
    first = gate_stage.run(context, 1)
    assert (first.verdict, "no blind choices yet" in first.reason) == ("refused", True)
    choose(context, 1, 3)
    few = champion.promote(context, 1)
    assert few is not None
    assert (few.verdict, few.decided_by) == ("undecided", "preference"), "three choices tell nothing yet"
    choose(context, 1, count, refiner="bob")
    judgement = champion.promote(context, 1)
    assert judgement is not None
    assert (judgement.verdict, judgement.decided_by) == ("promoted", "preference")
    assert judgement.look == 1, "looks at choices spend nothing of the budget of those at scores"
    compared = champion.compare(context, 0, 1)
    chosen = compared["preference"]
    assert (chosen["win_rate"]["value"], chosen["win_rate"]["n"], chosen["refiners"]) == (1.0, count, 2)
    assert f"On {count} videos people chose round 1's text 100%" in comparison_text(compared, 8)
    assert champion.compare(context, 1, 0)["preference"]["win_rate"]["value"] == 0.0
    assert json.loads(json.dumps(w.champions()[-1]["judgement"]))["decided_by"] == "preference"
    says(context, 2, 0.9)
    choose(context, 2, 3, refiner="cleo", older=1)
    unlike = RoundContext(make_workspace(*SETTINGS, "gate.measures=[preference, token_f1]", "gate.min_anchors=99"))
    early = champion.promote(unlike, 2)
    assert early is not None
    assert (early.verdict, early.look) == ("undecided", 1), "people chose before enough anchors were corrected"


@pytest.mark.slow
def test_a_promotion_that_was_killed_before_its_note_is_not_judged_again(context: RoundContext) -> None:
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    first = gate_stage.run(context, 1)
    assert gate_stage.run(context, 1) == first, "against the champion of then, not against itself"
    assert len(context.workspace.champions()) == 1


@pytest.mark.slow
def test_what_a_model_wrote_that_was_taken_back_is_not_used(context: RoundContext) -> None:
    w = context.workspace
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    gate_stage.run(context, 1)
    train = context.split("train")[0]
    one = CurrentTexts(w).captions(1)[train.id]
    w.add_annotations([replace(one, id="by-m1", round=2, text="By M1.")], 2)
    w.set_stage(2, "annotate", "done", {"by": 1})
    assert CurrentTexts(w).captions(2)[train.id].text == "By M1."
    correct(context, train.id, "A person's.", round=2)
    champion.rollback(context)
    texts = CurrentTexts(w)
    assert texts.captions(2) == {}
    assert texts.human[train.id].text == "A person's.", "what people made of it stays"


@pytest.mark.slow
def test_a_round_is_read_as_it_was(context: RoundContext) -> None:
    w = context.workspace
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    gate_stage.run(context, 1)
    before = (w.annotations().to_dicts(), w.corrections().to_dicts(), CurrentTexts(w).human)
    late = w.correction_records()[0]
    w.add_corrections(
        [replace(late, id="late", text="Said later, dated earlier.", at=datetime(2020, 1, 1, tzinfo=UTC))]
    )
    w.add_corrections([replace(late, id="later", text="Said later.", at=datetime(2030, 1, 1, tzinfo=UTC))])
    says(context, 2, 0.5)
    exclude(w, "r", "to see that it does not reach back")
    view = w.as_of(1)
    assert (view.annotations().to_dicts(), view.corrections().to_dicts(), CurrentTexts(view).human) == before
    assert view.champion() == 1
    assert CurrentTexts(w).human == {}, "now that one's words are left out"
    with pytest.raises(UserError, match="never came to its gate"):
        w.as_of(2)
    (w.root / "snapshots" / "round=001" / "corrections.parquet").write_bytes(b"other")
    with pytest.raises(UserError, match="gone or changed"):
        w.as_of(1)


@pytest.mark.parametrize("harm", ["changed", "gone"])
@pytest.mark.slow
def test_a_champion_whose_files_are_not_what_they_were(context: RoundContext, harm: str) -> None:
    w = context.workspace
    for round, right in ((0, 0.2), (1, 0.9)):
        says(context, round, right)
    adapter = w.model_folder(1) / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    gate_stage.run(context, 1)
    champion.verify(context)
    if harm == "changed":
        (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    else:
        for file in adapter.iterdir():
            file.unlink()
        adapter.rmdir()
    with pytest.raises(BorderError, match={"changed": "changed since it was promoted", "gone": "is gone"}[harm]):
        annotate_stage.run(context, 2)
    assert w.champion() == 1
    says(context, 2, 1.0)
    champion.promote(context, 2, "a newer one")
    with pytest.raises(UserError, match="gone or changed since"):
        champion.rollback(context)
    assert champion.rollback(context, to=0) == 0


@pytest.mark.slow
def test_who_fails_on_gold_stops_the_round_until_left_out(context: RoundContext) -> None:
    w = context.workspace
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    train = context.split("train")
    extra = [replace(CurrentTexts(w).captions(1)[train[0].id], id=f"g{i}", round=1 + i) for i in range(6)]
    w.add_annotations(extra, 1)
    add_gold(w, {train[0].id: "What is truly there."}, "lead")
    w.add_corrections(
        [
            Correction(
                id=f"e{i}",
                annotation_id=f"g{i}",
                clip_id=train[0].id,
                verdict="edit",
                text="spam",
                refiner="eve",
                at=datetime(2026, 2, 1, tzinfo=UTC),
            )
            for i in range(6)
        ]
    )
    found = gate_stage.run(context, 1)
    assert found.verdict == "undecided"
    assert "eve had 0 of 6 gold items right" in found.reason
    assert w.champion() == 0
    exclude(w, "eve", "spam")
    judgement = champion.promote(context, 1)
    assert judgement is not None
    assert judgement.verdict == "promoted"


@pytest.mark.slow
def test_who_agrees_with_nobody_stops_the_round(context: RoundContext) -> None:
    w = context.workspace
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    one = CurrentTexts(w).captions(1)[context.split("train")[0].id]
    w.add_annotations([replace(one, id=f"o{i}", round=50 + i) for i in range(24)], 50)
    people = ("ann", "bob", "cleo", "eve")
    said = []
    for i in range(24):
        # Each text lies before two of the four, every pair four times.
        pair = list(itertools.combinations(people, 2))[i % 6]
        for name in pair:
            text = (
                f"nonsense {i} of {name}"
                if name == "eve"
                else f"A red ball rolls to the left of box {i}" + " slowly" * (name == "bob")
            )
            said.append(
                Correction(
                    id=f"{i}{name}",
                    annotation_id=f"o{i}",
                    clip_id=one.clip_id,
                    verdict="edit",
                    text=text,
                    refiner=name,
                    at=datetime(2026, 2, 1, tzinfo=UTC),
                )
            )
    w.add_corrections(said)
    found = gate_stage.run(context, 1)
    assert found.verdict == "undecided"
    assert "eve agrees with others by" in found.reason
    assert not any(f"{name} agrees" in found.reason for name in ("ann", "bob", "cleo")), "nobody else is named"
    exclude(w, "eve", "agrees with nobody")
    judgement = champion.promote(context, 1)
    assert judgement is not None
    assert judgement.verdict == "promoted"


@pytest.mark.slow
def test_old_weights_go_and_what_is_needed_stays(context: RoundContext) -> None:
    w = context.workspace
    for round in range(1, 7):
        says(context, round, 0.5)
        if round in (1, 2, 3):
            champion.promote(context, round, "x")
    assert champion.prune(context, 1, dry_run=True) == [1, 4, 5]
    assert champion.prune(context, 1) == [1, 4, 5]
    assert [r for r in range(1, 7) if w.model_folder(r).exists()] == [2, 3, 6], "champion, the one before, the newest"
    assert champion.prune(context, 1) == []


@pytest.mark.slow
def test_a_frozen_model_writes_whoever_is_champion(context: RoundContext, make_workspace: Make) -> None:
    w = context.workspace
    for round in (0, 1, 2, 3):
        says(context, round, 0.2 if round == 0 else 0.9)
    champion.promote(context, 1, "x")
    assert champion.writer_of(context) == 1
    w.set_stage(3, "gate", "done", {})
    w.database.close()
    frozen = RoundContext(make_workspace(*SETTINGS, "annotate.by=0"))
    assert champion.writer_of(frozen) == 0, "no row names the base; nothing need be promoted"
    assert run_round(frozen, until="annotate")["round"] == 4
    assert frozen.workspace.stage(4, "annotate")[1]["by"] == 0
    frozen.workspace.database.close()
    two = RoundContext(make_workspace(*SETTINGS, "annotate.by=2"))
    assert champion.writer_of(two) == 2
    assert champion.prune(two, 0) == [3], "the champion and who writes stay"
    with pytest.raises(UserError, match=r"annotate.by: round 9 has no evaluated model"):
        champion.writer_of(RoundContext(make_workspace(*SETTINGS, "annotate.by=9")))
    champion.promote(two, 2, "x")
    champion.rollback(two)
    with pytest.raises(UserError, match="was taken back"):
        champion.writer_of(two)


@pytest.mark.slow
def test_rounds_side_by_side(context: RoundContext) -> None:
    for round in (5, 6):
        context.workspace.set_stage(round, "evaluate", "done", {})
    with pytest.raises(UserError, match="compare 5 6: neither round wrote about a test or anchor clip"):
        champion.compare(context, 5, 6)
    says(context, 1, 0.2)
    says(context, 2, 0.9)
    found = champion.compare(context, 1, 2)
    assert found["anchors"]["difference"]["value"] > 0.3
    text = comparison_text(found, 8)
    assert "p(better) = " in text
    assert "Nothing of the kind, said 1." in text
    with pytest.raises(UserError, match="round 9 has no figures"):
        champion.compare(context, 1, 9)


@pytest.mark.slow
def test_killed_at_any_moment_there_is_one_champion(context: RoundContext) -> None:
    """Twenty kill -9 over promotions and rollbacks of the real command:
    old or new, and the command goes through after."""
    w = context.workspace
    for round in (1, 2):
        says(context, round, 0.5)
    rng = np.random.default_rng(0)
    command = [sys.executable, "-m", "flywheel.cli"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *command,
                *arguments,
                "--config",
                str(w.root),
                "--set",
                "tracking.enabled=false",
                "--set",
                "gate.min_anchors=8",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )

    began = time.monotonic()
    assert start("promote", "1", "--force", "x").wait(120) == 0
    whole = time.monotonic() - began
    outcomes = set()
    for number in range(20):
        before = w.champion()
        wanted = ("promote", "2", "--force", "x") if before == 1 else ("rollback",)
        process = start(*wanted)
        time.sleep(float(rng.uniform(0.5 * whole, 1.3 * whole)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after = w.champion()
        assert after in (1, 2)
        outcomes.add(after != before)
        rows = w.champions()
        assert rows[-1]["round"] == after
        assert w.lineage()[-1] == after, f"kill {number}"
    assert outcomes == {True, False}, "some kills came before, some after"
    done = start(*(("promote", "2", "--force", "x") if w.champion() == 1 else ("rollback",)))
    assert done.wait(120) == 0

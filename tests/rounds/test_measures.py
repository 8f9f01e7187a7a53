"""A gate of several measures: the most trusted that can tell decides, and each has its share of the error."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flywheel.core.config import Gate
from flywheel.metrics.facts import ClipFacts, Fact, fact_scores
from flywheel.metrics.preference import WinRate
from flywheel.rounds.gate import Candidate, judge
from flywheel.rounds.measures import FactsBeside, by_facts

BOTH = ("preference", "token_f1")


def candidate(gain: float, won: int, lost: int, ties: int = 0, anchors: int = 40, **more: Any) -> Candidate:
    """A candidate with this gain in word F1 on anchors, and these choices."""
    noise = np.random.default_rng(1).normal(0, 0.02, anchors)
    choices = [1.0] * won + [0.0] * lost + [0.5] * ties
    return Candidate(
        after=list(0.7 + gain + noise),
        before=[0.7] * anchors,
        groups=list(range(anchors)),
        refiners=frozenset({"ann"}),
        choices=choices,
        choosers=frozenset({"ann"} if choices else ()),
        **more,
    )


@pytest.mark.parametrize(
    ("tested", "measures", "verdict", "decided_by", "says"),
    [
        # Another wording: people prefer what word overlap takes for worse.
        (candidate(-0.1, 40, 5), BOTH, "promoted", "preference", "people prefer it: on 45 videos it won 89%"),
        (candidate(-0.1, 40, 5), ("token_f1", "preference"), "refused", "token_f1", "worse on 40 anchors"),
        # The champion's words once more, and worse captions.
        (candidate(0.1, 5, 40), BOTH, "refused", "preference", "people prefer the champion's texts"),
        (candidate(0.1, 0, 0), BOTH, "promoted", "token_f1", "preference not measured: no blind choices yet, 206 are"),
        (candidate(0.1, 5, 12), BOTH, "undecided", "preference", "by token_f1 alone it would be promoted: better"),
        (candidate(-0.1, 12, 5), BOTH, "undecided", "preference", "by token_f1 alone it would be refused: worse on"),
        (candidate(0.1, 6, 6), BOTH, "promoted", "token_f1", "preference: not shown to be preferred"),
        (candidate(0.1, 105, 105), BOTH, "refused", "preference", "not shown to be preferred: on 210 videos"),
        (candidate(0.0, 6, 6), BOTH, "refused", "token_f1", "not shown to be better"),
        (candidate(0.1, 6, 6, anchors=4), BOTH, "undecided", "", "token_f1: can't tell yet: 4 of at least 8"),
        (candidate(0.1, 40, 5, anchors=0), ("preference",), "promoted", "preference", "people prefer it"),
        (candidate(0.1, 0, 0, anchors=0), ("preference",), "undecided", "", "preference: no blind choices yet"),
        (candidate(0.1, 6, 6, possible=30), ("preference",), "undecided", "", "of which the corpus has only 30"),
        (candidate(0.1, 6, 6, anchors=4, possible=6), BOTH, "undecided", "", "so word overlap can never decide"),
        (candidate(0.1, 40, 5, stale="adapter"), BOTH, "refused", "", "other weights than lie there now"),
        (candidate(0.1, 40, 5, suspects={"eve": "had 0 of 9"}), BOTH, "undecided", "", "eve had 0 of 9"),
    ],
)
def test_the_most_trusted_measure_that_can_tell_decides(
    tested: Candidate, measures: tuple[str, ...], verdict: str, decided_by: str, says: str
) -> None:
    found = judge(tested, Gate(measures=measures), 1)
    assert (found.verdict, found.decided_by) == (verdict, decided_by), found.reason
    assert says in found.reason, found.reason
    assert json.loads(json.dumps(found.record()))["verdict"] == verdict


def test_each_measure_has_its_share_of_the_error_and_a_later_candidate_less() -> None:
    won = next(n for n in range(99) if WinRate([1] * n).e_value >= 80)
    assert judge(candidate(0.0, won, 0), Gate(measures=BOTH), 1).decided_by == "preference", "alpha / 2 / 2 measures"
    assert judge(candidate(0.0, won - 1, 0), Gate(measures=BOTH), 1).verdict != "promoted"
    assert judge(replace(candidate(0.0, won, 0), number=2), Gate(measures=BOTH), 1).verdict != "promoted"
    assert judge(candidate(0.0, won - 1, 0), Gate(measures=("preference",)), 1).verdict == "promoted"
    alone, shared = (judge(candidate(0.1, 0, 0), Gate(measures=m), 1).level for m in (("token_f1",), BOTH))
    assert alone == 2 * shared


def test_not_worse_and_too_few_people() -> None:
    settings = Gate(measures=("preference",), require="not_worse", win_margin=0.15)
    even = candidate(0.0, 150, 150)
    assert judge(even, settings, 1).verdict == "promoted"
    assert judge(even, settings.model_copy(update={"win_margin": 0.01}), 1).verdict == "refused"
    alone = judge(candidate(0.1, 40, 5), Gate(measures=("preference",), min_refiners=2), 1)
    assert (alone.verdict, "ann alone, 2 refiners" in alone.reason) == ("undecided", True)
    passed = judge(candidate(0.1, 0, 0, anchors=0), Gate(measures=BOTH, untested="promote"), 1)
    assert (passed.verdict, "promoted without a test" in passed.reason) == ("promoted", True)


def test_by_word_overlap_alone_nothing_is_on_record_of_measures() -> None:
    record = judge(candidate(0.1, 40, 5), Gate(), 1).record()
    assert not {"decided_by", "measures"} & set(record)
    measured = judge(candidate(0.1, 40, 5), Gate(measures=BOTH), 1).record()["measures"]
    assert [(m["name"], m["is_measured"]) for m in measured] == [("preference", True), ("token_f1", True)]


def stated(right: int, made_up: int, left_out: int, clips: int = 40) -> list[ClipFacts]:
    """Texts with about so many facts of each sort, one in a video; the numbers vary a little by clip."""

    def some(count: int, verdict: str, number: int) -> tuple[Fact, ...]:
        names = {"quote": "q", "modality": "seen" if number % 2 else "heard", "aspect": "event"}
        return tuple(Fact(fact=f"{verdict} {n}", verdict=verdict, **names) for n in range(count))

    return [
        ClipFacts(
            clip_id=f"c{n}",
            video=f"v{n}",
            words=10 + n,
            said=some(right + n % 2, "supported", n) + some(made_up, "open", n),
            wanted=some(right + n % 2, "supported", n) + some(left_out, "open", n),
        )
        for n in range(clips)
    ]


FACTS = ("preference", "facts", "token_f1")
GOOD, BETTER, TALKER = stated(5, 2, 4), stated(8, 1, 1), stated(9, 6, 0)


@pytest.mark.parametrize(
    ("gain", "won", "after", "verdict", "decided_by", "says"),
    [
        (-0.1, 0, BETTER, "promoted", "facts", "states more of what is true on 40 videos: fact F1 +0."),
        (-0.1, 0, GOOD, "refused", "token_f1", "facts: not shown to state more of what is true on 40 videos"),
        (0.1, 0, stated(3, 4, 6), "refused", "facts", "it invents more: fact precision -0."),
        (0.1, 0, TALKER, "refused", "facts", "a loss of 0.02 is allowed (gate.fact_margin); else promoted"),
        # Whatever else rises, people's choices too.
        (0.1, 40, TALKER, "refused", "facts", "else promoted: people prefer it"),
        (-0.1, 40, BETTER, "promoted", "preference", "people prefer it"),
        (0.1, 0, BETTER[:5], "promoted", "token_f1", "facts not measured: can't tell yet: facts of 5 of at least 8"),
    ],
)
def test_facts_are_heard_and_who_invents_is_refused(
    gain: float, won: int, after: list[ClipFacts], verdict: str, decided_by: str, says: str
) -> None:
    tested = replace(candidate(gain, won, 0), facts=FactsBeside.of(after, GOOD))
    found = judge(tested, Gate(measures=FACTS), 1, resamples=200)
    assert (found.verdict, found.decided_by) == (verdict, decided_by), found.reason
    assert says in found.reason, found.reason


def test_what_a_judge_cant_tell_is_counted_and_left_out_on_both_sides() -> None:
    unsure = [replace(clip, said=(), why="no list of facts") for clip in BETTER[:10]] + BETTER[10:]
    beside = FactsBeside.of(unsure, GOOD)
    assert (len(beside.after), len(beside.before), beside.unsure, beside.why) == (30, 30, 10, "no list of facts")
    scores = fact_scores(unsure, resamples=100)
    assert (scores.unsure, scores.precision.n) == (0.25, 30)
    assert {"precision_seen", "recall_heard", "precision_event"} <= set(scores.parts)
    assert [part["n"] for part in scores.by_length] == [10, 10, 10]
    assert scores.by_length[0]["words"] < scores.by_length[2]["words"]
    measured = by_facts(beside, {"ann", "bob"}, Gate(), 1, 100)
    assert (measured.verdict, measured.is_measured) == ("undecided", False)
    assert measured.reason.startswith("can't tell: 25% of the clips are untold, at most 20% may be")
    assert by_facts(FactsBeside.of(unsure[3:], GOOD), {"ann", "bob"}, Gate(), 1, 100).is_measured
    silent = ClipFacts(clip_id="c", video="v", wanted=GOOD[0].wanted)
    assert (silent.precision, silent.recall is not None, silent.f1) == (None, True, 0.0)
    nothing = fact_scores([], resamples=100)
    assert (nothing.precision.n, nothing.parts, nothing.by_length, nothing.unsure) == (0, {}, (), 0.0)

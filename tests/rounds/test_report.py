"""The report's first block, its clips and its table, from records as rounds leave them."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.core.types import Estimate, RoundReport
from flywheel.rounds import report as page
from flywheel.rounds.differences import parts
from flywheel.rounds.figures import figure_of
from flywheel.rounds.plots import draw, minutes_of
from flywheel.rounds.verdict import card_of

GATE = {
    "against": 1,
    "verdict": "refused",
    "reason": "worse on 12 anchors",
    "difference": {"value": -0.05, "low": -0.09, "high": -0.01, "n": 12},
    "p_better": 0.99,
    "p_worse": 0.01,
    "level": 0.025,
    "look": 1,
    "alarms": [{"reason": "fewer different words"}],
}


def rounds() -> list[RoundReport]:
    people = {"refiners": [{"refiner": "ann", "seconds": 90.0}, {"refiner": "bob", "seconds": 30.0}]}
    anchor = (Estimate(value=v, low=v - 0.05, high=v + 0.05, n=12) for v in (0.3, 0.7, 0.5))
    return [
        RoundReport(
            round=round,
            num_corrections=4 * round,
            quality={"anchor_token_f1": f1, "agreement": Estimate(value=1.0, low=0.9, high=1.1, n=9)},
            watch={"self_bleu": Estimate(value=0.2, low=0.1, high=0.3, n=9)},
            details={} if round == 0 else {"gate": GATE, "review": people},
        )
        for round, f1 in zip(range(3), anchor, strict=True)
    ]


def test_the_first_block_says_verdict_gain_test_and_alarms() -> None:
    card = card_of(rounds()[2], champion=1)
    assert card.title == "Round 2: not promoted"
    assert card.gain == Estimate(value=-0.05, low=-0.09, high=-0.01, n=12)
    assert card.against == "round 1's model"
    assert card.test.startswith("p(better) = 0.99, p(worse) = 0.01; a gain counts at 0.025 or less (test 1")
    assert card.in_use == "The model in use is round 1's model."
    assert card.alarms == ("fewer different words",)
    untested = RoundReport(round=1, num_corrections=0, details={"gate": {"verdict": "undecided", "reason": "too few"}})
    assert (card_of(untested, 0).gain, card_of(untested, 0).test) == (None, "")
    assert card_of(RoundReport(round=0, num_corrections=0), 0).title == "The base model, before any round"


@pytest.mark.slow
def test_each_tests_gain_is_drawn_on_a_line_at_zero_and_peoples_time_beside_it() -> None:
    gains, *_, effort = draw(rounds()).axes
    assert "gain over the champion" in gains.get_title()
    assert np.array_equal(gains.lines[0].get_ydata(), [0, 0])
    assert [text.get_text() for text in gains.texts] == ["p 0.99, level 0.025"] * 2
    assert "minutes" in effort.get_title()
    assert [minutes_of(report) for report in rounds()] == [None, 2.0, 2.0]


def test_diagnostics_stand_apart_and_a_sure_change_is_marked() -> None:
    sections = page._sections(rounds())
    assert [line.figure.name for line in sections["Quality"]] == ["quality/anchor_token_f1"]
    assert [line.figure.name for line in sections["Diagnostics"]] == ["quality/agreement", "watch/self_bleu"]
    assert list(sections)[-1] == "Diagnostics"
    assert sections["Quality"][0].change == "worse", "against round 1, whose interval lies above"
    assert [line.change for line in sections["Diagnostics"]] == ["", ""]
    assert page.change_between(figure_of("watch/self_bleu"), Estimate(value=0, low=0, high=0.1, n=9), None) == ""


def test_a_difference_in_words_signs_and_scripts_without_blanks() -> None:
    assert list(parts("A red ball.", "A blue ball.")) == [
        ("same", "A "),
        ("gone", "red"),
        ("added", "blue"),
        ("same", " ball."),
    ]
    assert [kind for kind, _ in parts("红色的球", "蓝色的球")] == ["gone", "added", "same"]
    assert list(parts("There is a ball", "One sees a ball"))[:2] == [("gone", "There is"), ("added", "One sees")]
    for before, after in (("", "x y"), ("a b ", "c d "), ("x \n", "y \n z"), ("x y", ""), ("same", "same")):
        found = parts(before, after)
        assert "".join(text for kind, text in found if kind != "added") == before
        assert "".join(text for kind, text in found if kind != "gone") == after

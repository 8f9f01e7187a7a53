"""Replies read strictly, and scores against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.benchmark.answers import UNPARSED, agreed, chosen
from flywheel.benchmark.groups import group_score
from flywheel.benchmark.items import Group, Item
from flywheel.benchmark.scores import likeliest, score
from flywheel.metrics.intervals import clustered_estimate

_OPTIONS = ("a red dog", "a blue cat", "a cow", "I see none")
#: The options said again.
_LISTED = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", _OPTIONS, strict=True))


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "B",
            "b",
            " B.",
            "(B)",
            "**B**",
            "[B]",
            "Option B",
            "Answer: B",
            "B)",
            "B.\n",
            "$\\boxed{B}$",
            "<answer>B</answer>",
        ),
        *("B. a blue cat", "(B) it is a cat that sits", "**B.** a blue cat", "B: because it meows"),
        *("A blue cat.", '"a blue cat"', '{"answer": "B"}', '```json\n{"answer": "a blue cat"}\n```'),
        *("The answer is B.", "It meows, so the correct option is (B).", "The best answer is: **B** as it meows."),
        *("B\n\nThe cat meows.", "**B**\n\nIt meows.", "B\na blue cat", "(B)\n\nThe answer is B."),
        f"{_LISTED}\n\nThe correct answer is B.",
        *("<think>A? The answer is A. No.</think>B", "<think>C</think>\nThe answer is B"),
    ],
)
def test_a_reply_that_names_one_option_is_read(reply: str) -> None:
    assert chosen(reply, _OPTIONS) == 1


@pytest.mark.parametrize(
    "reply",
    [
        *("", "   ", "A or B", "A, B", "AB", "A cat is seen", "I think it is blue", "Blue", "E", "The answer is E"),
        *("The answer is A. The answer is B.", "A. a blue cat", "It is either the dog or the cat.", "none of them"),
        *("A dog. The cat is not seen", "<think>The answer is B", "1", "The answer is a cat", '{"answer": ["A", "B"]}'),
        *("The answer is the second", "As an AI I can't see", "B's cat", "Because of A"),
        *(_LISTED, "A. a red dog\nB. a blue cat", "A\nB", "A\n\nThe answer is B.", f"{_LISTED}\nB. yes"),
        *("The answer is A or B.", "The answer is B/C.", "The answer is (A) and (B).", "B. So the answer is A."),
        *("<think>The answer is B.</think>I can't tell.", "Thinking: the answer may be B"),
    ],
)
def test_a_reply_that_names_none_or_several_is_no_answer(reply: str) -> None:
    assert chosen(reply, _OPTIONS) == UNPARSED


@pytest.mark.parametrize(("reply", "place"), [("C", 2), ("c.", 2), ("E", 2), ("F", 3), ("D", 3), ("A", 0)])
def test_the_letter_asked_for_comes_before_an_options_own_words(reply: str, place: int) -> None:
    assert chosen(reply, ("C", "D", "E", "F")) == place


@pytest.mark.parametrize(
    ("reply", "place"),
    [("Sing.", 0), ("<think>dance?</think>\n**Sing**", 0), ("to sing", 1), ("<think>sing", UNPARSED), (" ", UNPARSED)],
)
def test_an_open_answer_is_compared_without_thoughts_and_formatting(reply: str, place: int) -> None:
    assert agreed(reply, ("sing", "chant")) == place


def _item(number: int, *, video: str, key: int = 0, type: str = "", group: Group | None = None) -> Item:
    return Item(
        id=str(number), question="what?", options=("x", "y", "z", "w"), key=key, video=video, type=type, group=group
    )


def test_accuracy_counts_what_cant_be_read_as_wrong() -> None:
    items = [_item(n, video=f"v{n // 2}", key=n % 4, type="odd" if n % 2 else "even") for n in range(8)]
    found = score(items, [0, 1, 2, UNPARSED, 0, UNPARSED, 3, 3])
    assert (found.accuracy.value, found.accuracy.n, found.unparsed, found.chance) == (5 / 8, 8, 2, 0.25)
    assert found.accuracy.low <= 5 / 8 <= found.accuracy.high
    assert {name: (part.value, part.n) for name, part in found.by_type.items()} == {"even": (3 / 4, 4), "odd": (0.5, 4)}
    with pytest.raises(ValueError, match="1 answers for 8 items"):
        score(items, [0])
    assert np.isnan(score([], []).accuracy.value)


def test_intervals_draw_whole_videos() -> None:
    """Ten questions of a video that are all right or all wrong say no more than one: the interval is that of 40 videos,
    not of 400 answers. By the normal approximation its half is 1.96 sqrt(.25 / 40) = .155."""
    values = np.repeat(np.arange(40) % 2, 10)
    videos = [f"v{number}" for number in np.repeat(np.arange(40), 10)]
    found = clustered_estimate(values, videos)
    assert (found.value, found.n) == (0.5, 400)
    assert (found.high - found.low) / 2 == pytest.approx(0.155, abs=0.015)
    alone = clustered_estimate(values, [str(number) for number in range(400)])
    assert (alone.high - alone.low) / 2 == pytest.approx(0.049, abs=0.006)
    # Videos of unequal length weigh by their questions.
    assert clustered_estimate([1, 1, 1, 0], ["a", "a", "a", "b"]).value == 0.75
    one = clustered_estimate([1.0, 0.0], ["a", "a"])
    assert (one.low, one.high) == (0.5, 0.5)


_CHAIN = ((0,), (1,), (2,), (3,))
_MIDDLE = ((0,), (1, 2), (3,))
_START = ((0, 1), (2,), (3,))


@pytest.mark.parametrize(
    ("steps", "right", "expected"),
    [
        ((), "0000", 0), ((), "0100", 6.25), ((), "0101", 25), ((), "1101", 56.25), ((), "1111", 100),
        (_CHAIN, "0111", 0), (_CHAIN, "1011", 6.25), (_CHAIN, "1101", 25), (_CHAIN, "1110", 56.25),
        (_CHAIN, "1111", 100), (_MIDDLE, "1000", 100 / 12), (_MIDDLE, "1011", 400 / 12), (_MIDDLE, "1101", 400 / 12),
        (_MIDDLE, "1110", 700 / 12), (_MIDDLE, "0111", 0), (_START, "0111", 10), (_START, "1011", 10),
        (_START, "1110", 50), (_START, "1101", 20), (_START, "1111", 100),
    ],
)  # fmt: skip
def test_a_groups_score(steps: tuple[tuple[int, ...], ...], right: str, expected: float) -> None:
    group = Group(id="g", kind="logic" if steps else "relevance", steps=steps)
    assert 100 * group_score(group, [answer == "1" for answer in right]) == pytest.approx(expected)


def test_groups_that_were_not_asked_whole_have_no_score() -> None:
    def group(name: str, place: int, kind: str = "relevance") -> Group:
        return Group(id=name, kind=kind, steps=_CHAIN if kind == "logic" else (), place=place)

    items = [_item(n, video="a", group=group("a", n)) for n in range(4)]
    items += [_item(4 + n, video="b", group=group("b", n, "logic")) for n in range(4)]
    items += [_item(8 + n, video="c", group=group("c", n)) for n in range(3)]
    found = score(items, [0, 0, 1, 0, 0, 0, UNPARSED, 0, 0, 0, 0])
    assert {kind: (part.value, part.n) for kind, part in found.groups.items()} == {
        "relevance": (9 / 16, 1),
        "logic": (4 / 16, 1),
        "all": ((9 / 16 + 4 / 16) / 2, 2),
    }


def test_the_likeliest_option_is_chosen() -> None:
    rows = [[-3.0, -1.0], [-1.0, -2.0, -0.5], [-1.0, float("nan")], [-2.0, -2.0]]
    assert likeliest(rows).tolist() == [1, 2, UNPARSED, 0]
    assert likeliest([]).tolist() == []

"""What is found wrong with a text, and what is not."""

from __future__ import annotations

import pytest

from annotators import Result
from annotators.health import Unhealthy, check
from annotators.loops import looped
from flywheel.playground import scenes

INSTRUCTION = "Describe what is seen and heard in this clip, in one sentence."


def result(text: str, finish: str = "stop") -> Result:
    return Result(key="k", text=text, token_ids=(1, 2), logprobs=(0.0, 0.0), tokens_in=1, finish=finish, seconds=0.0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "empty"),
        ("...", "empty"),
        ("a man walks to the door " * 5, "loop"),
        ("red red red red red", "loop"),
        ("it is " * 3, "loop"),
        (
            "A dog barks. Then the man says yes and the man says yes and the man says yes and the man says yes and",
            "loop",
        ),
        ("hmmmmmmmmmmmmmmmmm", "loop"),
        ("I'm sorry, but I can't describe this video.", "refusal"),
        ("As an AI language model I have no eyes.", "refusal"),
        ("Sure: describe what is seen and heard in this clip, in one sentence. A ball.", "copied prompt"),
        ("Красный мяч катится налево.", "language"),
        ("一个红色的球向左滚动", "language"),
    ],
)
def test_faults_have_names(text: str, name: str) -> None:
    with pytest.raises(Unhealthy) as found:
        check(result(text), instruction=INSTRUCTION, script="LATIN")
    assert found.value.name == name
    assert str(found.value)


def test_a_loop_that_was_cut_off_is_a_loop_and_a_text_is_cut_off() -> None:
    for text, name in (("and then " * 30, "loop"), ("A man opens a door and", "cut off")):
        with pytest.raises(Unhealthy) as found:
            check(result(text, "length"))
        assert found.value.name == name


@pytest.mark.parametrize(
    "text",
    [
        "A dog barks.",
        "No, no, no, says the woman and closes the door behind her.",
        "The drummer plays one, two, three, four; one, two, three, four; and then the band begins.",
        "A man who can't swim sits by the pool. I cannot see his face.",
        "Der Ball rollt über die Straße, im Hintergrund läuft Владимир.",
        "1, 2, 3 ... 10 ------------ done",
        "A clip in which somebody describes what is seen by the sea.",
    ],
)
def test_healthy_texts_are_left_alone(text: str) -> None:
    check(result(text), instruction=INSTRUCTION, script="LATIN")


def test_no_true_caption_of_the_playground_is_called_a_fault() -> None:
    for index in range(500):
        check(result(scenes.sample_scene(index).caption()), instruction=INSTRUCTION, script="LATIN")


def test_a_text_that_could_not_be_made_says_why() -> None:
    with pytest.raises(Unhealthy, match="too long") as found:
        check(result("the clip is too long", "error"))
    assert found.value.name == "error"


def test_loops_of_every_length() -> None:
    for period in range(1, 25):
        words = [f"w{i}" for i in range(period)]
        assert looped(["x", "y", *(words * 12)[: max(12, 3 * period)]]), period
        assert not looped([*(words * 2), "end"]) or period == 1, period

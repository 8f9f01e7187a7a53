"""Many wordings for the same facts, and the reader that gets them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.metrics import token_f1
from flywheel.playground import fact_scores, facts_of, grammar, scenes, write_playground
from flywheel.playground.paraphrase import paraphrase
from flywheel.playground.reading import read_facts

SCENES = [scenes.sample_scene(seed) for seed in range(120)]


def test_every_wording_states_the_scene_s_facts_and_nothing_else() -> None:
    for scene in SCENES:
        assert facts_of(scene.caption()) == scene.slots(), scene.caption()
        filled = f"{scene.paraphrase()} {' '.join(f'{words}.' for words in grammar.CHATTER)}"
        assert facts_of(filled) == scene.slots(), "filler states nothing, however long it is"
        for number in range(2):
            text = scene.paraphrase(number)
            assert facts_of(text) == scene.slots(), text
            assert facts_of(f"{text} {text}") == scene.slots(), "a text said twice states no more"
            assert all(stated.quote and stated.quote in text for stated in read_facts(text))


def test_word_overlap_and_truth_come_apart() -> None:
    same = [token_f1(scene.paraphrase(0), scene.paraphrase(1)) for scene in SCENES]
    assert np.mean(same) < 0.65, "two true texts of a clip share few words"
    [one, *_] = SCENES
    objects = [thing.values() for thing in one.things]
    assert len({paraphrase(objects, one.sound, np.random.default_rng(n)) for n in range(200)}) > 150


def test_scores_count_what_is_made_up_and_what_is_left_out() -> None:
    truth = facts_of("A small red circle rises and a large blue star spins while beeps repeat.")
    other = "Beeping is heard. An azure pentagram, which is huge, rotates and a tiny crimson dot is lifted."
    assert fact_scores(other, truth)[0] < 1, "without a side the first named thing is the left one"
    sided = "On the right a huge azure pentagram rotates. On the left a scarlet dot, which is tiny, ascends."
    assert fact_scores(sided, truth) == pytest.approx((1.0, 8 / 9, 16 / 17))
    invented = f"{sided} One hears bleeps. A white ring sinks."
    assert fact_scores(invented, truth) == pytest.approx((9 / 12, 1.0, 18 / 21))
    assert fact_scores("", truth) == fact_scores("thanks for watching", truth) == (0.0, 0.0, 0.0)


def test_a_thing_named_again_is_the_same_and_another_is_not() -> None:
    text = "A red circle and a red star are seen. The red star spins, the circle rises. The green ring shakes."
    assert facts_of(text) == {
        "0.colour=red", "0.shape=circle", "0.motion=rises",
        "1.colour=red", "1.shape=star", "1.motion=spins",
        "2.colour=green", "2.shape=ring", "2.motion=shakes",
    }  # fmt: skip
    assert facts_of("the second one spins") == {"0.motion=spins"}
    assert facts_of("a ring, then a blue star drifting left") == {
        "0.shape=ring", "1.colour=blue", "1.shape=star", "1.motion=drifts left",
    }  # fmt: skip


def test_a_corpus_that_paraphrases_has_the_facts_of_the_one_that_does_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--grammar french: need corpus or paraphrase"):
        write_playground(tmp_path, seed=5, num_clips=1, noise_rate=0.0, grammar="french")
    write_playground(tmp_path, seed=5, num_clips=1, noise_rate=0.0, grammar="paraphrase")
    [(_, text, slots)] = pl.read_parquet(tmp_path / "oracle.parquet").rows()
    [transcript] = [path.read_text() for path in (tmp_path / "corpus").glob("*.txt")]
    scene = scenes.sample_scene(100_000)
    assert text != transcript.strip() != scene.caption()
    assert facts_of(text) == facts_of(transcript) == set(slots) == scene.slots()

"""Edits of noise and level are taken by measured quality, which speaks for no edit in time and buys no hack."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.curation.repair.calibrating import Calibrating
from flywheel.curation.repair.loop import Limits, Repaired, refusal, repair
from flywheel.curation.repair.measures import Norms, Picture, measures
from flywheel.curation.repair.plan import Plan, Step, plan
from flywheel.curation.repair.planners import Case, planner
from flywheel.curation.repair.quality import Quality, figures, noised, quality_of
from flywheel.curation.repair.rewards import Rewards, falls
from flywheel.curation.repair.scales import Scale
from flywheel.curation.repair.standards import Standards
from flywheel.sound import actions
from flywheel.sound.motion import visual_events
from tests.curation.test_sound_repair import HACKS
from tests.plugins import Plugin
from tests.rendered import RATE_HZ, impacts, picture, tones

SECONDS = 4.0
Clips = list[tuple[NDArray[np.float32], Picture]]


@pytest.fixture(scope="module")
def clips() -> Clips:
    out = []
    for seed in range(3):
        at_s, times_s = impacts(seed, SECONDS), np.arange(0, SECONDS, 1 / 25)
        seen_s, events = visual_events(picture(at_s, times_s, seed), times_s)
        out.append((tones(at_s, seed, length_s=SECONDS), Picture(events=events, times_s=seen_s)))
    return out


@pytest.fixture(scope="module")
def usual(clips: Clips) -> tuple[Norms, Rewards]:
    calibrating = Calibrating()
    for number, (sound, seen) in enumerate(clips):
        calibrating.add(sound, RATE_HZ, seen, str(number))
    assert calibrating.wrong == 2
    return calibrating.result()


def looked_at(
    sound: NDArray[np.float32], seen: Picture, usual: tuple[Norms, Rewards], *plans: Plan
) -> tuple[NDArray[np.float32] | None, Repaired]:
    """What the loop makes of a sound, with rules where no plans are given."""
    norms, rewards = usual
    case, left = Case(key="c", measures=measures(sound, RATE_HZ, seen), norms=norms), [*plans, Plan()]
    plans_next = (lambda case, tried: left.pop(0)) if plans else planner("rules")
    limits = Limits(falls=rewards.falls)
    return repair(sound, RATE_HZ, case, plans_next, lambda s: rewards.of(s, RATE_HZ, seen), limits=limits)


def bands_db(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    """Levels in dB of 40 ms, down to 40 below the loudest: it is no reward."""
    level = 10 * np.log10(np.square(sound.astype(np.float64)).reshape(-1, RATE_HZ // 25).mean(axis=1) + 1e-12)
    return np.maximum(level, level.max() - 40)


@pytest.mark.parametrize("kind", ["hiss", "quiet"])
def test_noise_and_level_are_mended_where_neither_moves_an_onset(
    kind: str, clips: Clips, usual: tuple[Norms, Rewards]
) -> None:
    sound, seen = clips[0]
    damaged = noised(sound, RATE_HZ, 5.0, 7) if kind == "hiss" else actions.build("gain", db=-14.0)(sound, RATE_HZ)
    edited, found = looked_at(damaged, seen, usual)
    assert found.outcome == "repaired", found
    assert edited is not None
    assert [step.action for step in found.plan.steps] == ["spectral_gate" if kind == "hiss" else "gain"]
    assert found.after["quality"] >= found.before["quality"] + Limits().quality_margin
    # By the picture alone it would have stayed.
    before, after = ({name: of[name] for name in ("synchrony", "agreement")} for of in (found.before, found.after))
    assert kind == "hiss" or "need a rise of 0.03" in refusal(found.plan, before, after, Limits())
    off_db = [np.abs(bands_db(heard) - bands_db(sound)).mean() for heard in (damaged, edited)]
    assert off_db[1] < 0.5 * off_db[0]


def test_clean_sounds_are_edited_by_no_filter_and_no_gain(clips: Clips, usual: tuple[Norms, Rewards]) -> None:
    steps = [Step(action=name) for name in actions.names() if actions.action(name).family == "filter"]
    steps += [Step(action="gain", parameters={"db": db}) for db in (-9.0, 4.0, 9.0)]
    sound, seen = clips[2]
    rewards = usual[1].of(sound, RATE_HZ, seen)
    for step in steps:
        after = usual[1].of(plan([step]).apply(sound, RATE_HZ), RATE_HZ, seen)
        assert refusal(plan([step]), rewards, after, Limits(falls=usual[1].falls)).startswith("quality"), step


SHIFT, GATE = Step(action="shift", parameters={"seconds": 0.1}), Step(action="spectral_gate")


@pytest.mark.parametrize(
    ("steps", "synchrony", "quality", "why"),
    [
        # In time: what is measured of the sound alone does not speak for it, and may speak against it.
        ([SHIFT], 0.9, 0.2, ""),
        ([SHIFT], 0.5, 0.9, "synchrony 0.50 to 0.50: need a rise of 0.1"),
        # A rise within chance is none.
        ([SHIFT], 0.58, 0.2, "synchrony 0.50 to 0.58: need a rise of 0.1"),
        # Of noise: onsets may move by chance alone.
        ([GATE], 0.5, 0.8, ""),
        ([GATE], 0.41, 0.8, ""),
        ([GATE], 0.39, 0.8, "synchrony 0.50 to 0.39: may fall by 0.1"),
        ([GATE], 0.9, 0.5, "quality 0.20 to 0.50: need a rise of 0.4"),
        # Both: each must earn its place.
        ([GATE, SHIFT], 0.9, 0.8, ""),
        ([GATE, SHIFT], 0.9, 0.2, "quality 0.20 to 0.20: need a rise of 0.4"),
        ([GATE, SHIFT], 0.5, 0.8, "synchrony 0.50 to 0.50: need a rise of 0.1"),
    ],
)
def test_an_edit_is_judged_by_what_it_is_for(steps: list[Step], synchrony: float, quality: float, why: str) -> None:
    before = {"synchrony": 0.5, "agreement": 1.0, "quality": 0.2}
    after = {"synchrony": synchrony, "agreement": 1.0, "quality": quality}
    assert refusal(plan(steps), before, after, Limits(falls={"synchrony": 0.1})) == why


def test_an_edit_in_time_that_changes_nothing_is_none() -> None:
    full = {"synchrony": 1.0, "agreement": 1.0, "quality": 0.7}
    assert refusal(plan([SHIFT]), full, full, Limits()).endswith("neither rises, as both are high")


def test_an_edit_in_time_does_not_spoil_a_sound() -> None:
    before, after = {"synchrony": 0.1, "quality": 0.9}, {"synchrony": 0.9, "quality": 0.3}
    assert refusal(plan([SHIFT]), before, after, Limits()) == "quality 0.90 to 0.30: may fall by 0.4"


@pytest.mark.parametrize("hack", ["mute", "drown", "foreign"])
def test_quality_buys_no_hack(hack: str, clips: Clips, usual: tuple[Norms, Rewards], plugin: Plugin) -> None:
    plugin("flywheel.sound.actions", f"{hack} = hacks2:{hack.upper()}", HACKS)
    sound, seen = clips[0]
    for damaged in (noised(sound, RATE_HZ, 3.0, 1), actions.build("gain", db=-14.0)(sound, RATE_HZ)):
        edited, found = looked_at(damaged, seen, usual, plan([Step(action=hack)], "it pays"))
        assert edited is None
        assert found.outcome == "refused"


def test_a_figure_that_tells_nothing_here_is_left_out(usual: tuple[Norms, Rewards]) -> None:
    own = [{"noise": value, "peak_db": -6.0} for value in (3.0, 4.0, 5.0, 40.0)]
    noisy = [{"noise": 1.5, "peak_db": -6.0}] * 4
    assert set(quality_of([*own, *own[3:] * 4], noisy, usual[0]).scales) == {"noise", "level"}
    # Most clips are as noisy as those that were spoiled; peaks lie anywhere.
    little = quality_of(own[:3], noisy, replace(usual[0], peak_off_db=9.0))
    assert not little.scales
    assert little.of(np.zeros(800, np.float32), RATE_HZ) == 1.0
    with pytest.raises(ValueError, match="need clips"):
        quality_of([], [], usual[0])


def test_quality_of_anything_is_a_share(usual: tuple[Norms, Rewards]) -> None:
    rng = np.random.default_rng(3)
    sounds = [np.zeros(n) for n in (0, 3, 16_000)] + [np.full(16_000, np.nan), np.sign(rng.normal(size=16_000))]
    quality = usual[1].quality
    assert quality is not None
    for sound in sounds:
        assert 0 <= quality.of(sound.astype(np.float32), RATE_HZ) <= 1
        assert all(np.isfinite(list(figures(sound.astype(np.float32), RATE_HZ).values())))


def test_chance_is_a_match_or_what_most_clips_lose() -> None:
    scales = {"agreement": Scale(none=0.25, full=0.75)}
    own = [{"agreement": 0.75}] * 4
    assert falls(own, own, scales) == {"agreement": pytest.approx(0.1)}
    assert falls(own, [{"agreement": 0.6}] * 4, scales) == {"agreement": pytest.approx(0.3)}


def test_standards_are_kept_with_quality_and_chance(usual: tuple[Norms, Rewards]) -> None:
    norms, rewards = usual
    text = Standards(norms=norms, rewards=rewards, tried=3).to_json()
    again = Standards.from_json(text)
    assert again is not None
    assert isinstance(rewards.quality, Quality)
    assert again.rewards.quality == replace(rewards.quality, scales=dict(rewards.quality.scales))
    assert again.rewards.falls == rewards.falls
    assert Standards.from_json(json.dumps({**json.loads(text), "version": 3})) is None

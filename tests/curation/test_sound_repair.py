"""Sound repaired where it helps: what rules plan, how the loop decides, and what it never takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.curation.repair.loop import Limits, repair
from flywheel.curation.repair.measures import Norms, Picture, measures, norms
from flywheel.curation.repair.plan import Plan, Step, parse, plan
from flywheel.curation.repair.planners import Case, Tried, names, planner
from flywheel.curation.repair.rewards import Rewards, calibrated, raw
from flywheel.sound import actions
from flywheel.sound.fit import fit
from flywheel.sound.motion import visual_events
from flywheel.sound.onsets import TRACK_HZ
from tests.plugins import Plugin
from tests.rendered import RATE_HZ, impacts, picture, tones

SECONDS = 4.0
NUM_CLIPS = 3


def noisy(sound: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    noise = np.random.default_rng(8).normal(size=len(sound))
    if kind == "hum":
        time_s = np.arange(len(sound)) / RATE_HZ
        noise = 0.2 * noise + sum(np.sin(2 * np.pi * 50 * k * time_s) / k for k in (1, 2, 3))
    return (sound + noise * np.sqrt(np.mean(sound**2) / np.mean(noise**2) / 2)).astype(np.float32)


def cut(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silence for 60 ms, from 15 ms after the loudest sample."""
    start = int(np.argmax(np.abs(sound))) + int(0.015 * RATE_HZ)
    out = sound.copy()
    out[start : start + int(0.06 * RATE_HZ)] = 0
    return out


def loudness(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root of the power in blocks of 40 ms, of the first three seconds: what was lost at the end is not counted."""
    return np.sqrt(np.mean(np.square(sound[: 3 * RATE_HZ].reshape(-1, RATE_HZ // 25)), axis=1))


#: Damage, and the action that mends it.
DAMAGE: dict[str, tuple[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]]] = {
    "hiss": ("spectral_gate", lambda sound: noisy(sound, "hiss")),
    "hum": ("wiener", lambda sound: noisy(sound, "hum")),
    "late": ("shift", lambda sound: actions.build("shift", seconds=0.35)(sound, RATE_HZ)),
    "slow": ("speed", lambda sound: actions.build("speed", rate=0.93)(sound, RATE_HZ)),
    "quiet": ("gain", lambda sound: actions.build("gain", db=-15.0)(sound, RATE_HZ)),
    "gap": ("fill", cut),
}


@pytest.fixture(scope="module")
def clips() -> list[tuple[NDArray[np.float32], Picture]]:
    out = []
    for seed in range(NUM_CLIPS):
        at_s, times_s = impacts(seed, SECONDS), np.arange(0, SECONDS, 1 / 25)
        times_s, events = visual_events(picture(at_s, times_s, seed), times_s)
        out.append((tones(at_s, seed, length_s=SECONDS), Picture(events=events, times_s=times_s)))
    return out


@pytest.fixture(scope="module")
def usual(clips: list[tuple[NDArray[np.float32], Picture]]) -> Norms:
    return norms(measures(sound, RATE_HZ, seen) for sound, seen in clips)


@pytest.fixture(scope="module")
def rewards(clips: list[tuple[NDArray[np.float32], Picture]]) -> Rewards:
    own = [raw(sound, RATE_HZ, seen) for sound, seen in clips]
    wrong = [raw(np.roll(sound, RATE_HZ * 3 // 4), RATE_HZ, seen) for sound, seen in clips]
    return calibrated(own, wrong)


def case_of(sound: NDArray[np.float32], seen: Picture, usual: Norms, key: str = "clip") -> Case:
    return Case(key=key, measures=measures(sound, RATE_HZ, seen), norms=usual)


@pytest.mark.parametrize("kind", DAMAGE)
def test_rules_plan_the_action_that_mends_the_damage(
    kind: str, clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms
) -> None:
    action, damage = DAMAGE[kind]
    sound, seen = clips[0]
    made = planner("rules")(case_of(damage(sound), seen, usual), [])
    assert [step.action for step in made.steps] == [action], made
    values = made.steps[0].parameters
    if kind == "late":
        assert values["seconds"] == pytest.approx(-0.35, abs=0.04)
    if kind == "slow":
        assert values["rate"] == pytest.approx(1 / 0.93, rel=0.01)
    if kind == "quiet":
        assert values["db"] == pytest.approx(15, abs=1)


def test_how_much_too_soft_a_clip_is_is_told_by_what_varies_least_in_the_corpus(
    clips: list[tuple[NDArray[np.float32], Picture]],
) -> None:
    # Recordings with more and with less noise, all set to one peak.
    noisy = [
        (tones(impacts(seed, SECONDS), seed, length_s=SECONDS, noise=noise), clips[seed][1])
        for seed, noise in enumerate((0.001, 0.003, 0.012))
    ]
    usual = norms(measures(sound, RATE_HZ, seen) for sound, seen in noisy)
    assert usual.peak_off_db < usual.floor_off_db
    sound, seen = noisy[0]
    made = planner("rules")(case_of(DAMAGE["quiet"][1](sound), seen, usual), [])
    assert [step.action for step in made.steps] == ["gain"]
    assert made.steps[0].parameters["db"] == pytest.approx(15, abs=1)


def test_an_offset_with_a_rival_is_left_alone(clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms) -> None:
    # Something happens twice a second, and is heard a quarter of a second late, or early.
    times_s = np.arange(0, SECONDS, 1 / 25)
    seen, heard = np.zeros(len(times_s), np.float32), np.zeros(round(SECONDS * TRACK_HZ), np.float32)
    seen[25:75:12], heard[[int((second + 0.24) * TRACK_HZ) for second in times_s[25:75:12]]] = 1, 1
    assert fit(heard, seen, times_s).rival > 0.6
    case = case_of(*clips[0], usual)
    for rival, steps in ((0.5, ["shift"]), (0.9, [])):
        told = replace(case.measures.fit, plain=0.0, shifted=0.8, offset_s=0.4, rival=rival, sped=0.0)
        made = planner("rules")(replace(case, measures=replace(case.measures, fit=told)), [])
        assert [step.action for step in made.steps] == steps


def test_clean_clips_are_left_alone(clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms) -> None:
    for sound, seen in clips:
        assert not planner("rules")(case_of(sound, seen, usual), [])
    sound, seen = clips[0]
    # Nothing is even planned where the rewards are high.
    edited, found = repair(
        sound, RATE_HZ, case_of(sound, seen, usual), planner("random"), lambda s: {"a": 0.9, "b": 0.86}
    )
    assert edited is None
    assert (found.outcome, found.trace) == ("left alone", ())


@pytest.mark.parametrize("kind", ["late", "slow"])
def test_the_loop_mends_from_the_original_and_says_how(
    kind: str, clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms, rewards: Rewards
) -> None:
    sound, seen = clips[1]
    damaged = DAMAGE[kind][1](sound)
    before = damaged.copy()
    edited, found = repair(
        damaged,
        RATE_HZ,
        case_of(damaged, seen, usual),
        planner("rules"),
        lambda samples: rewards.of(samples, RATE_HZ, seen),
    )
    assert np.array_equal(damaged, before)
    assert found.outcome == "repaired", found
    assert edited is not None
    assert [step.action for step in found.plan.steps] == [DAMAGE[kind][0]]
    assert all(found.after[name] > found.before[name] for name in ("synchrony", "agreement"))
    assert len({cycle.edited_from for cycle in found.trace}) == 1
    # What the rewards do not see: the loudness of the sound before it was damaged.
    truth = loudness(sound)
    assert np.corrcoef(loudness(edited), truth)[0, 1] > max(0.8, np.corrcoef(loudness(damaged), truth)[0, 1] + 0.2)


def test_plans_after_a_low_score_differ_and_the_loop_ends_at_its_cap(
    clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms
) -> None:
    sound, seen = clips[0]
    edited, found = repair(
        sound, RATE_HZ, case_of(sound, seen, usual), planner("random"), lambda s: {"a": 0.1, "b": 0.2}
    )
    assert edited is None
    assert found.outcome == "refused"
    assert len(found.trace) == Limits().cycles
    assert len({cycle.plan.key() for cycle in found.trace}) == len(found.trace)
    assert all("need a rise" in cycle.refused for cycle in found.trace)


def test_rules_try_another_filter_after_one_was_refused(
    clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms
) -> None:
    hissing = noisy(clips[0][0], "hiss")
    case, tried, planned = case_of(hissing, clips[0][1], usual), list[Tried](), []
    while made := planner("rules")(case, tried):
        planned.append(made.steps[0].action)
        tried.append(Tried(plan=made, rewards={}, refused="no rise"))
    assert planned == ["spectral_gate", "wiener", "spectral_subtraction", "wavelet"]


def test_a_planner_that_repeats_itself_ends_the_search(
    clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms
) -> None:
    def stubborn(case: Case, tried: Sequence[Tried]) -> Plan:
        return plan([Step(action="gain", parameters={"db": 3.0})], "louder")

    sound, seen = clips[0]
    _, found = repair(sound, RATE_HZ, case_of(sound, seen, usual), stubborn, lambda s: {"a": 0.1})
    assert [cycle.is_plan for cycle in found.trace] == [True, False, False]
    assert found.reason == found.trace[2].refused == "planned again: louder"
    assert found.outcome == "refused"


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Step(action="mute")], "unknown"),
        ([Step(action="gain", parameters={"db": 99.0})], "from -20 to 20"),
        ([Step(action="wiener"), Step(action="wavelet")], "both of family filter"),
    ],
)
def test_a_planner_whose_plan_is_none_leaves_the_original(
    steps: list[Step], words: str, clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms
) -> None:
    sound, seen = clips[0]
    edited, found = repair(
        sound,
        RATE_HZ,
        case_of(sound, seen, usual),
        lambda case, tried: Plan(steps=tuple(steps), reason="trust me"),
        lambda samples: {"a": 0.1},
    )
    assert edited is None
    assert words in found.reason
    assert "\n" not in found.reason
    assert [(cycle.is_plan, cycle.refused) for cycle in found.trace] == [(False, found.reason)] * Limits().no_plans
    assert found.outcome == "left alone"


@pytest.mark.parametrize("kind", ["nothing", "three samples", "zeros", "no numbers", "offset", "clipped"])
def test_whatever_comes_is_left_as_it_was_or_edited_whole(
    kind: str, clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms, rewards: Rewards
) -> None:
    length = {"nothing": 0, "three samples": 3}.get(kind, RATE_HZ)
    noise = np.random.default_rng(1).normal(size=length)
    values = {"zeros": 0 * noise, "no numbers": noise * np.nan, "offset": 0 * noise + 0.7, "clipped": np.sign(noise)}
    sound, seen = values.get(kind, noise).astype(np.float32), clips[0][1]
    for name in names():
        edited, found = repair(
            sound,
            RATE_HZ,
            case_of(sound, seen, usual),
            planner(name),
            lambda samples: rewards.of(samples, RATE_HZ, seen),
            limits=Limits(cycles=2),
        )
        assert edited is None or edited.shape == sound.shape
        assert found.outcome in ("left alone", "refused", "repaired")
    still = Picture(events=np.zeros(0, np.float32), times_s=np.zeros(0))
    assert measures(sound, RATE_HZ, still).fit.plain == 0


HACKS = """
    import numpy as np
    from flywheel.sound.actions import Action

    def mute(source):
        return (source.take(start, stop) * 0 for start, stop in source.spans())

    def drown(source):
        rng = np.random.default_rng(0)
        return (rng.normal(0, 0.3, (b - a, 1)).astype(np.float32) for a, b in source.spans())

    def foreign(source):
        from tests.rendered import impacts, tones
        return iter([tones(impacts(77, 4.0), 77, length_s=4.0)[: source.length, None]])

    MUTE, DROWN, FOREIGN = (
        Action(family="filter", does="a hack", parameters={}, edit=edit) for edit in (mute, drown, foreign)
    )
"""


@pytest.mark.parametrize("hack", ["mute", "drown", "foreign"])
def test_what_no_reward_may_buy_is_refused(
    hack: str, clips: list[tuple[NDArray[np.float32], Picture]], usual: Norms, plugin: Plugin
) -> None:
    plugin("flywheel.sound.actions", f"{hack} = hacks:{hack.upper()}", HACKS)
    sound, seen = clips[0]
    _, found = repair(
        sound,
        RATE_HZ,
        case_of(sound, seen, usual),
        lambda case, tried: plan([Step(action=hack)], "it pays"),
        # A reward that is bought: all but the original is perfect.
        lambda samples: {"a": 0.1 if np.array_equal(samples, sound) else 1.0},
    )
    assert found.outcome == "refused"
    assert found.trace[0].refused.startswith(("energy", "events", "spectrum"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("louder please", "no JSON"),
        ("[1]", "list 'edits'"),
        ('{"edits": [3]}', "'action'"),
        ('{"edits": [{"action": "mute"}]}', "unknown"),
        ('{"edits": [{"action": "gain", "parameters": {"db": 99}}]}', "from -20 to 20"),
        ('{"edits": [{"action": "gain", "parameters": [1]}]}', "'parameters'"),
        ('{"edits": [{"action": "wiener"}, {"action": "wavelet"}]}', "both of family filter"),
        ('{"edits": [{"action": "gain"}, {"action": "shift"}]}', "both of family coordination"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_plan_that_is_none_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(text)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_plan_is_read_back_and_filters_come_first() -> None:
    told = '{"edits": [{"action": "shift", "parameters": {"seconds": 0.1}}, {"action": "wiener"}], "reason": "late"}'
    made = parse(told)
    assert [step.action for step in made.steps] == ["wiener", "shift"]
    assert made.reason == "late"
    assert not parse('{"edits": []}')


def test_there_are_rules_a_model_and_two_controls() -> None:
    assert names() == ["model", "nothing", "random", "rules"]

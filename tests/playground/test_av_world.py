"""The audio-visual world: picture, sound and texts of one timeline agree, and faults are what they are called."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from flywheel.playground import av
from flywheel.playground.av import objects, sounds
from flywheel.playground.av.kinds import COLOURS, KINDS, SIZES, kinds_of
from flywheel.playground.av.timeline import Timeline

WORLDS = (av.CORPUS, av.BASE)
SEEDS = range(36)


def timelines(world: av.World, count: int = len(SEEDS)) -> list[Timeline]:
    """Timelines of a world, each fault among them."""
    faults = itertools.cycle(["", *av.FAULTS])
    rng = np.random.default_rng(3)
    plain = [av.sample(seed, world) for seed in range(count)]
    return [av.plant(each, fault, rng) if fault else each for each, fault in zip(plain, faults, strict=False)]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_every_text_parses_to_its_own_facts(world: av.World) -> None:
    for timeline in timelines(world):
        truth = av.true_facts(timeline)
        assert av.facts(av.caption(timeline, world.name), world.name) == truth
        seen, heard = av.seen_text(timeline, world.name), av.heard_text(timeline, world.name)
        assert {f"seen.{fact}" for fact in av.seen_facts(seen, world.name)} == {f for f in truth if f[0] == "s"}
        assert {f"heard.{fact}" for fact in av.heard_facts(heard, world.name)} == {f for f in truth if f[0] == "h"}
        assert not av.heard_facts(seen, world.name)
        assert not av.seen_facts(heard, world.name)


def test_the_dialects_share_sizes_and_colours_alone() -> None:
    corpus, base = (
        {word for each in timelines(world) for word in re.findall("[a-z]+", av.caption(each, world.name).lower())}
        for world in WORLDS
    )
    assert corpus & base == {*SIZES, *COLOURS}
    assert not av.heard_facts("Noise: double deep rap from 0.4.", "corpus")


def test_facts_of_any_text() -> None:
    assert av.facts("") == av.facts("Nothing of the kind, at 7 on Sunday.") == frozenset()
    assert av.facts("THREE low BOUNCES at 0.80") == {
        "heard.0.count=3",
        "heard.0.pitch=low",
        "heard.0.kind=bounce",
        "heard.0.at=0.8",
    }
    assert av.facts("a rising whistle, then two ticks; red kettle steams four times, a bell") == {
        "heard.0.kind=rise",
        "heard.1.count=2",
        "heard.1.kind=tick",
        "seen.0.colour=red",
        "seen.0.thing=kettle",
        "seen.0.count=4",
        "seen.1.thing=bell",
    }
    with pytest.raises(KeyError):
        av.facts("a bell", "latin")


def test_times_agree_within_a_fifth_of_a_second() -> None:
    truth = av.heard_facts("Three low bounces at 0.8.")
    assert av.facts_f1(av.heard_facts("Three low bounces at 1.0."), truth) == 1
    assert av.facts_f1(av.heard_facts("Three low bounces at 1.1."), truth) == pytest.approx(3 / 4)
    assert av.facts_f1(av.heard_facts("Three low bounces at 0.8, then one tick at 2.0."), truth) == pytest.approx(
        8 / 11
    )
    assert av.facts_f1(frozenset(), truth) == 0
    assert av.facts_f1(frozenset(), frozenset()) == 1


def test_things_jump_when_they_sound() -> None:
    """The largest changes between frames are at the acts, for each kind of thing, size and world."""
    looked: set[tuple[str, str]] = set()
    for world in WORLDS:
        for seed in itertools.count():
            timeline = av.sample(seed, world)
            [thing, *others] = sorted(timeline.things, key=lambda thing: -len(thing.times_s))
            if (world.name, thing.kind) in looked or any(other.times_s for other in others):
                continue
            looked.add((world.name, thing.kind))
            times = np.arange(0.1, av.DURATION_S, 0.04)
            pictures = av.frames(timeline, times, 48, 48).astype(np.int16)
            change = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))
            # The first frame that is not before the act is the first that shows it.
            acts = {int(np.searchsorted(times, t - 1e-6)) - 1 for t in thing.times_s}
            assert set(np.argsort(change)[-len(acts) :]) == acts, (world.name, thing.kind)
            if len(looked) % len(KINDS) == 0:
                break
    assert len(looked) == 2 * len(KINDS)


def test_a_picture_of_the_very_moment_shows_the_act() -> None:
    for seed in range(20):
        timeline = av.sample(seed)
        for thing in timeline.things:
            for t in thing.times_s:
                before, at = objects.moment(thing, t - 0.002), objects.moment(thing, t)
                assert (at.done, at.flash) == (before.done + 1, 1.0)


def test_sounds_begin_at_their_times() -> None:
    """Within 10 ms of its time each sound is at a fifth of its loudest, and silent before."""
    rng = np.random.default_rng(0)
    for kind, pitch, world in itertools.product(KINDS, ("low", "high"), WORLDS):
        event = sounds.Sound(
            kind=kind,
            pitch=pitch,
            times_s=(1.234,),
            hold_s=0.24,
            gain=0.4,
            tuning=world.tuning[0],
            brightness=world.brightness[0],
            decay=world.decay[0],
        )
        samples = av.sound(replace(av.sample(int(rng.integers(1000)), world), sounds=(event,), ambience=0.0))
        onset = int(np.flatnonzero(np.abs(samples) > 0.2 * np.abs(samples).max())[0]) / av.SAMPLE_RATE
        assert 1.234 <= onset <= 1.244, (kind, pitch, world.name)
        assert not samples[: int(1.2339 * av.SAMPLE_RATE)].any()


def test_the_same_moments_are_seen_and_heard_without_a_fault() -> None:
    for world, seed in itertools.product(WORLDS, SEEDS):
        timeline = av.sample(seed, world)
        acting = {thing.kind: thing for thing in timeline.things if thing.times_s}
        assert {sound.kind: sound.times_s for sound in timeline.sounds} == {k: t.times_s for k, t in acting.items()}
        assert {KINDS[thing.kind].theme for thing in timeline.things} == {timeline.theme}
        assert all(
            sound.pitch == {"large": "low", "small": "high"}[acting[sound.kind].size] for sound in timeline.sounds
        )
        assert 1 <= len(timeline.sounds) <= len(timeline.things) <= 2
        assert (timeline.matched, timeline.source, timeline.offset_s) == (True, "on_screen", 0)


def test_faults_are_what_they_are_called() -> None:
    rng = np.random.default_rng(1)
    for world, seed in itertools.product(WORLDS, range(12)):
        whole = av.sample(seed, world)
        made = {fault: av.plant(whole, fault, rng) for fault in av.FAULTS}
        for fault, timeline in made.items():
            assert timeline.fault == fault
            assert (timeline.things == whole.things) == (fault != "off_screen")
        assert all(sound.kind not in kinds_of(whole.theme) for sound in made["mismatch"].sounds)
        assert (made["mismatch"].matched, made["mismatch"].source) == (False, "none")
        offset_s = made["shift"].offset_s
        assert 0.5 <= abs(offset_s) <= 1
        for shifted, sound in zip(made["shift"].sounds, whole.sounds, strict=True):
            assert np.allclose(np.array(shifted.times_s) - offset_s, sound.times_s)
            assert 0 < shifted.times_s[0] < shifted.times_s[-1] + shifted.hold_s < av.DURATION_S
        assert (made["shift"].matched, made["shift"].source) == (True, "on_screen")
        [still] = made["off_screen"].things
        assert KINDS[still.kind].theme == whole.theme
        assert still.kind not in {sound.kind for sound in whole.sounds}
        assert not still.times_s
        assert made["off_screen"].sounds == whole.sounds
        assert (made["off_screen"].matched, made["off_screen"].source) == (True, "off_screen")
        assert (made["silent"].matched, made["silent"].source, made["silent"].sounds) == (False, "silent", ())
        assert made["silent"].has_track
        assert np.abs(av.sound(made["silent"])).max() > 0
        assert (made["no_track"].matched, made["no_track"].source) == (False, "none")
        assert not made["no_track"].has_track
        assert not av.sound(made["no_track"]).any()
    with pytest.raises(ValueError, match="unknown fault 'echo'; there are mismatch, shift"):
        av.plant(whole, "echo", rng)
    with pytest.raises(ValueError, match="has a fault already"):
        av.plant(made["shift"], "silent", rng)


def test_the_base_world_is_another() -> None:
    """No clip of one world is in the other: pairs of colour and thing, timbres and noise differ."""
    corpus, base = ([av.sample(seed, world) for seed in range(90)] for world in WORLDS)
    assert not {(t.colour, t.name) for each in base for t in each.things} & av.BASE.unseen_pairs
    assert av.BASE.unseen_pairs & {(t.colour, t.name) for each in corpus for t in each.things}
    assert max(s.brightness for each in base for s in each.sounds) < min(
        s.brightness for each in corpus for s in each.sounds
    )
    assert max(each.look.pattern for each in corpus) < min(each.look.pattern for each in base)
    assert {each.look.grain for each in base} == {0.0}
    for worlds in (corpus, base):
        assert {s.kind for each in worlds for s in each.sounds} == set(KINDS)
        assert {len(s.times_s) for each in worlds for s in each.sounds} == {1, 2, 3, 4}


def test_the_same_seed_gives_the_same_clip() -> None:
    one, again = av.sample(2**31 * 20_000 + 7), av.sample(2**31 * 20_000 + 7)
    assert one == again
    assert one != av.sample(2**31 * 20_000 + 8)
    assert np.array_equal(av.frames(one, [0.5, 1.0]), av.frames(again, [0.5, 1.0]))
    assert np.array_equal(av.sound(one), av.sound(again))
    assert av.frames(one, [0.5], 64, 48).shape == (1, 48, 64, 3)

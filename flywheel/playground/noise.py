"""Noise planted in transcripts: the five kinds of a microphone's and an uploader's mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from flywheel.playground import grammar
from flywheel.playground.scenes import Scene, Thing

KINDS: Final = ("other clip", "wrong facts", "chatter", "empty", "other half")


def noisy_transcript(scene: Scene, other: Scene, kind: str, rng: np.random.Generator, *, base: bool = False) -> str:
    """The transcript of ``scene`` with noise of this kind; ``other`` lends its text to ``other clip``.

    ``base`` writes in the bundled model's own dialect (its training only).
    """
    match kind:
        case "clean":
            return _text(scene, base)
        case "other clip":
            return _text(other, base)
        case "wrong facts":
            return _text(_with_wrong_facts(scene, int(rng.integers(1, 3)), rng), base)
        case "chatter":
            return str(rng.choice(grammar.CHATTER))
        case "empty":
            return ""
        case "other half":
            return _text(replace(scene, things=scene.later_things, sound=scene.later_sound), base)
    raise ValueError(f"playground: unknown noise kind {kind!r}; kinds are {', '.join(KINDS)}")


def _text(scene: Scene, base: bool) -> str:
    return scene.base_caption() if base else scene.caption()


def _with_wrong_facts(scene: Scene, count: int, rng: np.random.Generator) -> Scene:
    places = [(side, attribute) for side in (0, 1) for attribute in grammar.ATTRIBUTES] + [(2, "sound")]
    for index in rng.choice(len(places), size=count, replace=False):
        side, attribute = places[index]
        if side == 2:
            scene = replace(scene, sound=_other(grammar.SOUNDS, scene.sound, rng))
            continue
        thing = scene.things[side]
        values = {"size": grammar.SIZES, "colour": grammar.COLOURS, "shape": grammar.SHAPES, "motion": grammar.MOTIONS}
        wrong: dict[str, Any] = {attribute: _other(values[attribute], getattr(thing, attribute), rng)}
        changed: Thing = replace(thing, **wrong)
        scene = replace(scene, things=(changed, scene.things[1]) if side == 0 else (scene.things[0], changed))
    return scene


def _other(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return str(rng.choice([v for v in values if v != value]))

"""Noise planted in transcripts: the five kinds of a microphone's and an uploader's mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from flywheel.playground import grammar
from flywheel.playground.scenes import Scene, Thing

KINDS: Final = ("other clip", "wrong facts", "chatter", "empty", "other half")


def noisy_transcript(
    scene: Scene,
    other: Scene,
    kind: str,
    rng: np.random.Generator,
    *,
    text_of: Callable[[Scene], str] = Scene.caption,
) -> str:
    """The transcript of ``scene`` with noise of this kind; ``other`` lends its text to ``other clip``.

    ``text_of`` words a scene: as a caption of the corpus, in the bundled model's own dialect (its training only), or in
    one of many wordings.
    """
    match kind:
        case "clean":
            return text_of(scene)
        case "other clip":
            return text_of(other)
        case "wrong facts":
            return text_of(_with_wrong_facts(scene, int(rng.integers(1, 3)), rng))
        case "chatter":
            return str(rng.choice(grammar.CHATTER))
        case "empty":
            return ""
        case "other half":
            return text_of(replace(scene, things=scene.later_things, sound=scene.later_sound))
    raise ValueError(f"playground: unknown noise kind {kind!r}; kinds are {', '.join(KINDS)}")


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

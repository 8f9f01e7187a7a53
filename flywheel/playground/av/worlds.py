"""The two distributions of timelines: ``CORPUS`` is the playground's, ``BASE`` what the bundled models learn from.

No clip is in both: the random numbers, tints, backdrops, timbres and noise differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from flywheel.playground.av.kinds import COLOURS, KINDS, MAX_COUNT, PITCH_OF, SIZES, THEMES, kinds_of
from flywheel.playground.av.timeline import Look, Sound, Thing, Timeline

_RGB: Final = {
    "red": (214, 44, 40),
    "orange": (244, 136, 24),
    "yellow": (240, 224, 60),
    "green": (52, 184, 70),
    "cyan": (64, 206, 216),
    "blue": (52, 82, 222),
    "purple": (156, 62, 196),
    "white": (240, 240, 240),
}
_WALLS: Final = {"kitchen": (104, 112, 118), "workshop": (92, 68, 48), "yard": (88, 104, 128)}
_FLOORS: Final = {"kitchen": (62, 56, 58), "workshop": (50, 44, 42), "yard": (48, 74, 44)}
#: Everything happens between these times, within a span that leaves room to move the sound by half a second.
_FIRST_S, _LAST_S, _SPAN_S = 0.3, 3.0, 2.05
#: First moments of two sounds lie so far apart that their order is heard; any two moments differ by the second.
_ORDER_S, _APART_S = 0.25, 0.1
_TRIES = 30
_STILL_SHARE = 0.35


@dataclass(frozen=True, kw_only=True)
class World:
    """A distribution of timelines: a range for what may differ; ``unseen_pairs`` are (colour, thing) that never occur.

    ``greyness`` is how far colours lie towards grey, ``ambience`` the RMS of the noise, ``ambience_slope`` how its
    spectrum falls (0 white, 1 brown).
    """

    name: str
    salt: int
    unseen_pairs: frozenset[tuple[str, str]]
    textured: bool
    greyness: float
    shade: tuple[float, float]
    pattern: tuple[float, float]
    brightness: tuple[float, float]
    decay: tuple[float, float]
    tuning: tuple[float, float]
    ambience: tuple[float, float]
    ambience_slope: float


CORPUS: Final = World(
    name="corpus",
    salt=7927,
    unseen_pairs=frozenset(),
    textured=True,
    greyness=0.0,
    shade=(0.8, 1.1),
    pattern=(8.0, 11.0),
    brightness=(0.5, 0.8),
    decay=(0.95, 1.25),
    tuning=(0.94, 1.08),
    ambience=(0.002, 0.007),
    ambience_slope=1.0,
)
BASE: Final = World(
    name="base",
    salt=104711,
    unseen_pairs=frozenset(
        (colour, KINDS[kind].thing)
        for (i, colour), (j, kind) in product(enumerate(COLOURS), enumerate(KINDS))
        if (i + 2 * j) % 6 == 0
    ),
    textured=False,
    greyness=0.14,
    shade=(0.55, 1.3),
    pattern=(12.0, 17.0),
    brightness=(0.0, 0.45),
    decay=(0.7, 1.1),
    tuning=(0.92, 1.06),
    ambience=(0.0005, 0.009),
    ambience_slope=0.0,
)


def sample(seed: int, world: World = CORPUS) -> Timeline:
    """The timeline of a seed: one or two things that act and sound together, without a fault.

    Kinds, counts, sizes, colours and places are equally likely but for what the world leaves out.
    """
    return draw(np.random.default_rng([seed, world.salt]), world, seed)


def draw(rng: np.random.Generator, world: World, seed: int) -> Timeline:
    """As :func:`sample`, from random numbers; ``seed`` is that of grain and noise."""
    share = np.array([len(kinds_of(theme)) for theme in THEMES]) / len(KINDS)
    theme = THEMES[int(rng.choice(len(THEMES), p=share))]
    num_acting = int(rng.integers(1, 3))
    num_things = 2 if num_acting == 2 or rng.random() < _STILL_SHARE else 1
    kinds = [str(kind) for kind in rng.permutation(kinds_of(theme))[:num_things]]
    moments = [*_moments(rng, kinds[:num_acting]), *[((), 0.0)] * (num_things - num_acting)]
    sides = [str(side) for side in rng.permutation(["left", "right"])] if num_things == 2 else [_side(rng)]
    things = [
        draw_thing(rng, world, kind, side, times_s, hold_s)
        for kind, side, (times_s, hold_s) in zip(kinds, sides, moments, strict=True)
    ]
    sounds = [_sound(rng, world, thing) for thing in things if thing.times_s]
    return Timeline(
        world=world,
        seed=seed,
        theme=theme,
        look=_look(rng, world, theme),
        things=tuple(sorted(things, key=lambda thing: thing.x)),
        sounds=tuple(sorted(sounds, key=lambda sound: sound.times_s[0])),
        ambience=float(rng.uniform(*world.ambience)),
    )


def draw_thing(
    rng: np.random.Generator, world: World, kind: str, side: str, times_s: Sequence[float] = (), hold_s: float = 0.0
) -> Thing:
    """A thing of this kind at this side, with a size, colour and place drawn; without times it stands still."""
    name = KINDS[kind].thing
    size = str(rng.choice(SIZES))
    colour = str(rng.choice([c for c in COLOURS if (c, name) not in world.unseen_pairs]))
    pure = np.array(_RGB[colour]) * (1 - world.greyness) + 128 * world.greyness
    tint = tuple(int(v) for v in np.clip(pure + rng.integers(-14, 15, size=3), 0, 255))
    return Thing(
        kind=kind,
        size=size,
        colour=colour,
        side=side,
        tint=(tint[0], tint[1], tint[2]),
        x={"left": 32.0, "middle": 64.0, "right": 96.0}[side] + float(rng.uniform(-2.5, 2.5)),
        radius=float(rng.uniform(8.0, 9.2) if size == "small" else rng.uniform(12.6, 14.0)),
        turn=float(rng.uniform(0, 6.28)),
        times_s=tuple(times_s),
        hold_s=hold_s,
    )


def _side(rng: np.random.Generator) -> str:
    return str(rng.choice(["left", "middle", "right"]))


def _moments(rng: np.random.Generator, kinds: Sequence[str]) -> list[tuple[tuple[float, ...], float]]:
    """For each kind the moments at which it acts, and for how long."""
    while True:
        rhythms = [_rhythm(rng, kind) for kind in kinds]
        for _ in range(_TRIES):
            placed = [
                (steps + rng.uniform(_FIRST_S, _LAST_S - hold_s - steps[-1]), hold_s)
                for steps, hold_s in rhythms
                if _FIRST_S + hold_s + steps[-1] < _LAST_S
            ]
            if len(placed) == len(kinds) and _fits(placed):
                return [(tuple(round(float(t), 3) for t in times), hold_s) for times, hold_s in placed]


def _rhythm(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, float]:
    """Moments from 0 on, at uneven steps since even ones look the same when moved by one; and the length of each."""
    sustained = KINDS[kind].sustained
    count = int(rng.integers(1, MAX_COUNT + 1))
    steps = rng.uniform(*((0.42, 0.62) if sustained else (0.3, 0.6)), size=count - 1)
    hold_s = float(rng.uniform(0.22, 0.28)) if sustained else 0.14
    return np.concatenate([[0.0], np.cumsum(steps)]), round(hold_s, 3)


def _fits(placed: Sequence[tuple[np.ndarray, float]]) -> bool:
    first = min(times[0] for times, _ in placed)
    last = max(times[-1] + hold_s for times, hold_s in placed)
    if last - first > _SPAN_S:
        return False
    if len(placed) == 1:
        return True
    (one, _), (other, _) = placed
    return abs(one[0] - other[0]) >= _ORDER_S and bool(np.abs(one[:, None] - other[None, :]).min() >= _APART_S)


def _sound(rng: np.random.Generator, world: World, thing: Thing) -> Sound:
    return Sound(
        kind=thing.kind,
        pitch=PITCH_OF[thing.size],
        times_s=thing.times_s,
        hold_s=thing.hold_s,
        gain=float(rng.uniform(0.3, 0.5)),
        tuning=float(rng.uniform(*world.tuning)),
        brightness=float(rng.uniform(*world.brightness)),
        decay=float(rng.uniform(*world.decay)),
    )


def _look(rng: np.random.Generator, world: World, theme: str) -> Look:
    shade = rng.uniform(*world.shade)
    wall, floor = (
        tuple(int(v) for v in np.clip(np.array(rgb[theme]) * shade + rng.integers(-8, 9, size=3), 0, 255))
        for rgb in (_WALLS, _FLOORS)
    )
    return Look(
        wall=(wall[0], wall[1], wall[2]),
        floor=(floor[0], floor[1], floor[2]),
        pattern=float(rng.uniform(*world.pattern)),
        slope=(float(rng.uniform(-18, 18)), float(rng.uniform(-18, 18))) if world.textured else (0.0, 0.0),
        grain=float(rng.uniform(1.0, 4.0)) if world.textured else 0.0,
    )

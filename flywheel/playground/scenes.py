"""Scenes of the playground: sampling them, drawing their frames, making their sound.

Everything is a pure function of a seed, so a corpus can be made again to the byte of its oracle. Lengths are seconds;
coordinates are pixels of a 128 x 64 picture, scaled to the size that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from flywheel.playground import grammar
from flywheel.playground.paraphrase import paraphrase

FloatArray = NDArray[np.floating[Any]]

DURATION_S = 3.2
SAMPLE_RATE = 16_000
_WIDTH, _HEIGHT = 128, 64

_RGB = {
    "red": (212, 48, 44),
    "orange": (240, 138, 28),
    "yellow": (236, 220, 64),
    "green": (56, 172, 74),
    "cyan": (64, 202, 212),
    "blue": (58, 84, 214),
    "purple": (150, 66, 190),
    "white": (236, 236, 236),
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object: what a caption says about it, and where and how exactly it is drawn."""

    size: str
    colour: str
    shape: str
    motion: str
    x: float
    y: float
    radius: float
    angle: float
    tint: tuple[int, int, int]

    def values(self) -> dict[str, str]:
        return {"size": self.size, "colour": self.colour, "shape": self.shape, "motion": self.motion}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Two objects and a sound, in two halves. A clip shows the first half; the second is what happens later.

    ``start_s`` is when both objects begin to move, and the sound with them.
    """

    things: tuple[Thing, Thing]
    sound: str
    later_things: tuple[Thing, Thing]
    later_sound: str
    start_s: float
    background: tuple[int, int, int]
    gradient: tuple[float, float]
    grain: float
    pitch: float
    seed: int

    def caption(self) -> str:
        return grammar.caption([t.values() for t in self.things], self.sound)

    def paraphrase(self, number: int = 0) -> str:
        """The caption in one of its many wordings, drawn by the scene's seed and this number."""
        rng = np.random.default_rng([self.seed, number, 49_979_687])
        return paraphrase([t.values() for t in self.things], self.sound, rng)

    def later_caption(self) -> str:
        return grammar.caption([t.values() for t in self.later_things], self.later_sound)

    def base_caption(self) -> str:
        return grammar.base_caption([t.values() for t in self.things], self.sound)

    def slots(self) -> frozenset[str]:
        return grammar.slots(self.caption())


@dataclass(frozen=True, kw_only=True)
class World:
    """A distribution of scenes. ``CORPUS`` is the playground's; ``BASE`` is the one the bundled model was trained on.

    ``unseen_pairs`` are (colour, shape) combinations that never occur; ``sounds`` those that do.
    """

    unseen_pairs: frozenset[tuple[str, str]]
    sounds: tuple[str, ...]
    backgrounds: tuple[int, int]
    textured: bool


CORPUS = World(unseen_pairs=frozenset(), sounds=grammar.SOUNDS, backgrounds=(15, 95), textured=True)
BASE = World(
    unseen_pairs=frozenset(
        (colour, shape)
        for i, colour in enumerate(grammar.COLOURS)
        for j, shape in enumerate(grammar.SHAPES)
        if (i + 2 * j) % 6 == 0
    ),
    sounds=("beep", "hum", "hiss"),
    backgrounds=(0, 140),
    textured=False,
)


def sample_scene(seed: int, world: World = CORPUS) -> Scene:
    """The scene of this seed: every slot value equally likely among those that the world admits."""
    rng = np.random.default_rng([seed, 7919])
    things = (_sample_thing(rng, 0, world), _sample_thing(rng, 1, world))
    later = tuple(replace(t, motion=_sample_motion(rng, t.shape)) for t in things)
    base = rng.integers(*world.backgrounds)
    background = tuple(int(np.clip(base + rng.integers(-12, 13), 0, 255)) for _ in range(3))
    return Scene(
        things=things,
        sound=str(rng.choice(world.sounds)),
        later_things=(later[0], later[1]),
        later_sound=str(rng.choice(world.sounds)),
        start_s=float(rng.uniform(0.15, 0.5)),
        background=(background[0], background[1], background[2]),
        gradient=(float(rng.uniform(-25, 25)), float(rng.uniform(-25, 25))) if world.textured else (0.0, 0.0),
        grain=float(rng.uniform(1.0, 6.0)) if world.textured else 0.0,
        pitch=float(rng.uniform(0.85, 1.2)),
        seed=seed,
    )


def _sample_motion(rng: np.random.Generator, shape: str) -> str:
    while True:
        motion = str(rng.choice(grammar.MOTIONS))
        if not (motion == "spins" and shape in grammar.CANNOT_SPIN):
            return motion


def _sample_thing(rng: np.random.Generator, side: int, world: World) -> Thing:
    while True:
        colour, shape = str(rng.choice(grammar.COLOURS)), str(rng.choice(grammar.SHAPES))
        if (colour, shape) not in world.unseen_pairs:
            break
    size = str(rng.choice(grammar.SIZES))
    radius = float(rng.uniform(7.5, 9.0) if size == "small" else rng.uniform(12.5, 15.0))
    jitter = rng.integers(-18, 19, size=3)
    tint = tuple(int(v) for v in np.clip(np.array(_RGB[colour]) + jitter, 0, 255))
    return Thing(
        size=size,
        colour=colour,
        shape=shape,
        motion=_sample_motion(rng, shape),
        x=64.0 * side + float(rng.uniform(26, 38)),
        y=float(rng.uniform(26, 38)),
        radius=radius,
        angle=float(rng.uniform(-0.25, 0.25)),
        tint=(tint[0], tint[1], tint[2]),
    )


def draw(scene: Scene, times_s: Sequence[float], *, width: int = _WIDTH, height: int = _HEIGHT) -> NDArray[np.uint8]:
    """Frames ``(T, height, width, 3)``, uint8 RGB, of the scene's first half at these times (seconds)."""
    scale = width / _WIDTH
    columns = (np.arange(width, dtype=np.float32) + 0.5) / scale
    rows = (np.arange(height, dtype=np.float32) + 0.5) / scale
    x, y = columns[None, :], rows[:, None]
    slope = scene.gradient[0] * (x / _WIDTH - 0.5) + scene.gradient[1] * (y / _HEIGHT - 0.5)
    canvas = np.asarray(scene.background, dtype=np.float32)[None, None, :] + slope[:, :, None]
    rng = np.random.default_rng([scene.seed, 104729])
    if scene.grain:
        # One still texture: grain that flickers would only spend the encoder's bits.
        canvas = canvas + rng.normal(0.0, scene.grain, size=(height, width, 1)).astype(np.float32)
    frames = np.empty((len(times_s), height, width, 3), dtype=np.uint8)
    for index, time_s in enumerate(times_s):
        picture = canvas.copy()
        for thing in scene.things:
            _paint(picture, thing, x, y, max(0.0, time_s - scene.start_s), scale)
        frames[index] = np.clip(picture, 0, 255).astype(np.uint8)
    return frames


def _paint(
    picture: FloatArray,
    thing: Thing,
    x: FloatArray,
    y: FloatArray,
    moved_s: float,
    scale: float,
) -> None:
    centre_x, centre_y, radius, angle = thing.x, thing.y, thing.radius, thing.angle
    match thing.motion:
        case "rises":
            centre_y -= 7.0 * moved_s
        case "sinks":
            centre_y += 7.0 * moved_s
        case "drifts left":
            centre_x -= 7.0 * moved_s
        case "drifts right":
            centre_x += 7.0 * moved_s
        case "spins":
            angle += 1.1 * moved_s
        case "blinks":
            if moved_s > 0 and (moved_s / 1.1) % 1.0 < 0.5:
                return
        case "grows":
            radius *= 1.0 + 0.22 * moved_s
        case "shakes":
            centre_x += 4.5 * math.sin(2 * math.pi * moved_s / 0.46) if moved_s > 0 else 0.0
    reach = radius * 1.5 + 2
    columns = np.flatnonzero(np.abs(x[0] - centre_x) <= reach)
    rows = np.flatnonzero(np.abs(y[:, 0] - centre_y) <= reach)
    if not len(columns) or not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dx = x[:, columns[0] : columns[-1] + 1] - centre_x
    dy = y[rows[0] : rows[-1] + 1] - centre_y
    cos, sin = math.cos(angle), math.sin(angle)
    distance = _distance(thing.shape, dx * cos + dy * sin, dy * cos - dx * sin, radius)
    alpha = np.clip(0.5 - distance * scale, 0.0, 1.0)[:, :, None]
    picture[window] = picture[window] * (1 - alpha) + np.asarray(thing.tint, dtype=np.float32) * alpha


def _distance(shape: str, u: FloatArray, v: FloatArray, r: float) -> FloatArray:
    """Approximate signed distance (pixels, negative inside) to the outline; areas are roughly alike across shapes."""
    match shape:
        case "circle":
            return cast("FloatArray", np.hypot(u, v) - r)
        case "square":
            return cast("FloatArray", np.maximum(np.abs(u), np.abs(v)) - 0.88 * r)
        case "triangle":
            side = 0.866 * np.abs(u) + 0.5 * (-v)
            return cast("FloatArray", np.maximum(side, v) - 0.62 * r)
        case "ring":
            return cast("FloatArray", np.abs(np.hypot(u, v) - 0.78 * r) - 0.24 * r)
        case "cross":
            upright = np.maximum(np.abs(u) - 0.34 * r, np.abs(v) - 1.05 * r)
            across = np.maximum(np.abs(u) - 1.05 * r, np.abs(v) - 0.34 * r)
            return cast("FloatArray", np.minimum(upright, across))
        case "star":
            theta = np.mod(np.arctan2(u, -v) + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
            rho = np.hypot(u, v)
            px, py = rho * np.cos(theta), rho * np.abs(np.sin(theta))
            # The edge runs from the tip (1.25 r, angle 0) to the notch (0.5 r, angle pi/5).
            tip, notch = np.array([1.25 * r, 0.0]), 0.5 * r * np.array([math.cos(math.pi / 5), math.sin(math.pi / 5)])
            edge = notch - tip
            normal = np.array([-edge[1], edge[0]]) / np.hypot(*edge)
            return cast("FloatArray", -((px - tip[0]) * normal[0] + (py - tip[1]) * normal[1]))
    raise ValueError(f"playground: unknown shape {shape!r}")


def sound(scene: Scene) -> NDArray[np.float32]:
    """Mono samples in [-1, 1] at ``SAMPLE_RATE`` of the scene's first half:
    silence, then the sound from ``start_s`` on."""
    rng = np.random.default_rng([scene.seed, 15485863])
    samples = np.arange(int(DURATION_S * SAMPLE_RATE)) / SAMPLE_RATE
    t = samples - scene.start_s
    on = t >= 0
    match scene.sound:
        case "beep":
            wave = np.sin(2 * np.pi * 880 * scene.pitch * t) * ((t % 0.5) < 0.18)
        case "hum":
            partials = [np.sin(2 * np.pi * 110 * k * scene.pitch * t) / k for k in (1, 2, 3)]
            wave = 0.6 * np.sum(partials, axis=0)
        case "hiss":
            wave = rng.normal(0, 0.4, size=len(t))
        case "tick":
            wave = rng.normal(0, 1.0, size=len(t)) * np.exp(-np.mod(t, 0.36) / 0.006)
        case "whistle":
            swept = 600 * scene.pitch * t + 0.5 * 420 * t**2
            wave = np.sin(2 * np.pi * swept)
        case other:
            raise ValueError(f"playground: unknown sound {other!r}")
    return np.clip(0.45 * wave * on, -1, 1).astype(np.float32)

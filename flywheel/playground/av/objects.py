"""How the things of the audio-visual world look at a moment: discs, boxes and triangles that move as they act.

Every act begins with a jump in what is seen: the thing flashes, and moves most, at the very moment of its sound.
Each also leaves a mark on the floor, so that a picture now and then is enough to count them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

from flywheel.playground.av.timeline import Thing

#: Height of the floor in units of the plane; things stand on it.
FLOOR: Final = 54.0
_GREY, _DARK, _LIGHT, _FIRE = (120, 120, 124), (34, 32, 36), (238, 238, 232), (255, 170, 40)
_MARK: Final = (250, 244, 190)
_FLASH_S: Final = 0.14
_FLASH: Final = 0.85
#: Brightness from which on a white flash would change little.
_PALE: Final = 185
#: Seconds for which what came down stays there.
_REST_S: Final = 0.06

Rgb = tuple[int, int, int]


class Part(NamedTuple):
    """A disc, box or triangle: centre and half sizes in units, turned by ``angle`` (radians, clockwise).

    ``x`` counts from the thing's own place, ``y`` from the top.
    """

    shape: str
    x: float
    y: float
    half_width: float
    half_height: float
    rgb: Rgb
    angle: float = 0.0
    opacity: float = 1.0


class Moment(NamedTuple):
    """Where a thing is in its acts: how many began, how long ago the last one, how soon the next one (seconds)."""

    done: int
    since_s: float
    until_s: float
    hold_s: float

    @property
    def flash(self) -> float:
        """1 at the beginning of an act, fading to 0."""
        # In steps, so that equal pictures are drawn once.
        return round(15 * math.exp(-self.since_s / _FLASH_S)) / 15 if self.done else 0.0

    @property
    def progress(self) -> float:
        """How much of the last act is over, in [0, 1]; 0 before the first."""
        return min(1.0, self.since_s / self.hold_s) if self.done else 0.0

    @property
    def active(self) -> bool:
        """Whether an act goes on."""
        return self.done > 0 and self.since_s < self.hold_s

    @property
    def steps(self) -> float:
        """Acts that are over, the present one by its share."""
        return self.done - 1 + self.progress if self.done else 0.0

    def hop(self, *, fall_s: float, whole_s: float, rise_s: float = math.inf) -> float:
        """Height in [0, 1] of what comes down at each act, rests for a moment, and rises again.

        Shorter flights than ``whole_s`` reach less high; after the last act it rises within ``rise_s``.
        """
        # It rests, so that nothing changes as much as the blow itself.
        flown_s = max(0.0, self.since_s - _REST_S)
        if not self.done:
            return 1 - (1 - min(1.0, self.until_s / fall_s)) ** 2
        if math.isinf(self.until_s):
            return min(1.0, flown_s / rise_s)
        flight_s = self.since_s + self.until_s - _REST_S
        return min(1.0, flight_s / whole_s) * (1 - (2 * flown_s / flight_s - 1) ** 2)


def moment(thing: Thing, time_s: float) -> Moment:
    """Where a thing is in its acts at a time."""
    # Times are multiples of a millisecond; a frame at the very moment shows the act.
    done = bisect_right(thing.times_s, time_s + 1e-6)
    since_s = time_s - thing.times_s[done - 1] if done else math.inf
    until_s = thing.times_s[done] - time_s if done < len(thing.times_s) else math.inf
    return Moment(done, max(0.0, since_s), until_s, thing.hold_s)


def parts(thing: Thing, time_s: float) -> tuple[Part, ...]:
    """What is to be drawn of a thing at a time, back to front, the marks of its acts last."""
    now = moment(thing, time_s)
    shown = _PARTS[thing.name](thing, now, flashed(thing.tint, _FLASH * now.flash))
    marks = tuple(Part("box", 5.5 * (k - 1.5), 59.0, 1.7, 1.7, _MARK) for k in range(now.done))
    # Rounded for the same reason as the flash.
    return (
        tuple(Part(s, round(x, 1), round(y, 1), w, h, rgb, round(a, 2), o) for s, x, y, w, h, rgb, a, o in shown)
        + marks
    )


def flashed(rgb: Rgb, share: float) -> Rgb:
    """A colour moved towards white by a share in [0, 1]; what is pale already, towards blue."""
    bright = (70, 110, 255) if 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > _PALE else (255, 255, 255)
    return (
        round(rgb[0] + (bright[0] - rgb[0]) * share),
        round(rgb[1] + (bright[1] - rgb[1]) * share),
        round(rgb[2] + (bright[2] - rgb[2]) * share),
    )


def _contrast(rgb: Rgb) -> Rgb:
    return _DARK if sum(rgb) > 330 else _LIGHT


def _lamp(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = thing.radius
    dim = (int(thing.tint[0] * 0.75), int(thing.tint[1] * 0.75), int(thing.tint[2] * 0.75))
    return (
        Part("disc", 0, FLOOR - 1.3 * r, 1.15 * r, 1.15 * r, tint, opacity=0.55 * now.flash),
        Part("box", 0, FLOOR - 0.35 * r, 0.14 * r, 0.35 * r, _GREY),
        Part("box", 0, FLOOR - 0.08 * r, 0.5 * r, 0.1 * r, _GREY),
        Part("disc", 0, FLOOR - 1.3 * r, 0.7 * r, 0.7 * r, tint if now.flash > 0.02 else dim),
    )


def _kettle(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = thing.radius
    steam = 1.0 if now.active else max(0.0, 1 - (now.since_s - now.hold_s) / 0.15) if now.done else 0.0
    lift = 0.5 * r * now.progress
    return (
        Part("disc", 0.72 * r, FLOOR - 1.5 * r - lift, 0.3 * r, 0.3 * r, _LIGHT, opacity=0.9 * steam),
        Part("disc", 0.5 * r, FLOOR - 1.75 * r - lift, 0.22 * r, 0.22 * r, _LIGHT, opacity=0.8 * steam),
        Part("box", 0.55 * r, FLOOR - 0.85 * r, 0.42 * r, 0.13 * r, tint, angle=-0.75),
        Part("disc", -0.1 * r, FLOOR - 0.6 * r, 0.66 * r, 0.6 * r, tint),
        Part("box", -0.1 * r, FLOOR - 1.25 * r, 0.3 * r, 0.1 * r, _DARK),
    )


def _clock(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r, angle = thing.radius, thing.turn + now.done * math.pi / 3
    reach = 0.38 * r
    return (
        Part("disc", 0, FLOOR - r, r, r, _DARK),
        Part("disc", 0, FLOOR - r, 0.84 * r, 0.84 * r, tint),
        Part(
            "box",
            reach * math.cos(angle),
            FLOOR - r + reach * math.sin(angle),
            0.36 * r,
            0.1 * r,
            _contrast(thing.tint),
            angle=angle,
        ),
    )


def _hammer(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = 1.2 * thing.radius
    angle = -0.85 * now.hop(fall_s=0.25, whole_s=0.45, rise_s=0.4)
    pivot_x, pivot_y, arm = -0.8 * r, FLOOR - 0.8 * r, 1.15 * r
    return (
        Part("box", 0.35 * r, FLOOR - 0.25 * r, 0.55 * r, 0.25 * r, _GREY),
        Part(
            "box",
            pivot_x + 0.45 * arm * math.cos(angle),
            pivot_y + 0.45 * arm * math.sin(angle),
            0.5 * arm,
            0.1 * r,
            (150, 110, 70),
            angle=angle,
        ),
        Part(
            "box",
            pivot_x + arm * math.cos(angle),
            pivot_y + arm * math.sin(angle),
            0.34 * r,
            0.4 * r,
            tint,
            angle=angle,
        ),
        Part("disc", 0.35 * r, FLOOR - 0.55 * r, 0.6 * r, 0.6 * r, _FIRE, opacity=0.8 * now.flash),
    )


def _fan(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r, hub = thing.radius, FLOOR - 1.15 * thing.radius
    angle = thing.turn + 2.4 * now.hold_s * now.steps
    blades = (
        Part(
            "disc",
            0.5 * r * math.cos(angle + k * 2.094),
            hub + 0.5 * r * math.sin(angle + k * 2.094),
            0.48 * r,
            0.22 * r,
            tint,
            angle=angle + k * 2.094,
        )
        for k in range(3)
    )
    return (Part("box", 0, FLOOR - 0.5 * r, 0.1 * r, 0.5 * r, _GREY), *blades, Part("disc", 0, hub, 2, 2, _DARK))


def _engine(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = thing.radius
    x = 0.09 * r * math.cos(2 * math.pi * 9 * now.since_s) if now.active else 0.0
    return (
        Part("box", x + 0.45 * r, FLOOR - 1.45 * r, 0.16 * r, 0.3 * r, _DARK),
        Part("box", x, FLOOR - 0.8 * r, 0.9 * r, 0.45 * r, tint),
        Part("disc", x - 0.5 * r, FLOOR - 0.25 * r, 0.25 * r, 0.25 * r, _DARK),
        Part("disc", x + 0.5 * r, FLOOR - 0.25 * r, 0.25 * r, 0.25 * r, _DARK),
    )


def _ball(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = 0.72 * thing.radius
    top = FLOOR - 2 * r - 3
    squash = 0.22 * math.exp(-now.since_s / 0.2) if now.done else 0.0
    # One that never acts, or no more, lies on the floor.
    height = min(top, 20) * now.hop(fall_s=0.4, whole_s=0.9) if math.isfinite(now.until_s) else 0.0
    return (Part("disc", 0, FLOOR - r * (1 - squash) - height, r * (1 + squash), r * (1 - squash), tint),)


def _bell(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r, pivot = thing.radius, FLOOR - 2.2 * thing.radius
    swing = 0.5 * math.exp(-now.since_s / 0.4) * math.sin(2 * math.pi * now.since_s / 0.8) if now.done else 0.0

    def hung(reach: float) -> tuple[float, float]:
        return -reach * r * math.sin(swing), pivot + reach * r * math.cos(swing)

    return (
        Part("disc", *hung(1.5), 0.22 * r, 0.22 * r, _GREY),
        Part("triangle", *hung(0.75), 0.8 * r, 0.7 * r, tint, angle=swing),
        Part("box", *hung(1.42), 0.78 * r, 0.12 * r, tint, angle=swing),
        Part("box", 0, pivot, 0.5 * r, 1.2, _DARK),
    )


def _rocket(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = thing.radius
    foot = FLOOR - 2 - (FLOOR - 2.1 * r - 4) / 4 * now.steps
    burning = 1.0 if now.active else 0.0
    return (
        Part("triangle", 0, foot + 0.3 * r, 0.28 * r, 0.4 * r, _FIRE, angle=math.pi, opacity=burning),
        Part("triangle", 0, foot - 0.3 * r, 0.7 * r, 0.35 * r, _GREY),
        Part("box", 0, foot - 0.75 * r, 0.38 * r, 0.65 * r, tint),
        Part("triangle", 0, foot - 1.7 * r, 0.4 * r, 0.35 * r, tint),
    )


def _kite(thing: Thing, now: Moment, tint: Rgb) -> tuple[Part, ...]:
    r = thing.radius
    half = 0.66 * r
    y = 1.05 * r + 2 + (FLOOR - 2.6 * r - 4) / 5.5 * now.steps
    tail = 0.15 * math.sin(9 * now.steps)
    return (
        Part("box", 0.3 * r * tail, y + 1.2 * r, 0.07 * r, 0.4 * r, _LIGHT, angle=tail),
        Part("box", 0, y, half, half, tint, angle=math.pi / 4),
        Part("box", 0, y, 0.06 * r, 0.8 * r, _DARK),
    )


_PARTS: Final[dict[str, Callable[[Thing, Moment, Rgb], tuple[Part, ...]]]] = {
    "lamp": _lamp,
    "kettle": _kettle,
    "clock": _clock,
    "hammer": _hammer,
    "fan": _fan,
    "engine": _engine,
    "ball": _ball,
    "bell": _bell,
    "rocket": _rocket,
    "kite": _kite,
}

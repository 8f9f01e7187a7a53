"""The frames of a timeline: the theme's backdrop, and the parts of each thing painted over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flywheel.playground.av.objects import FLOOR, Part, parts
from flywheel.playground.av.timeline import Thing, Timeline

FloatArray = NDArray[np.floating[Any]]

WIDTH, HEIGHT = 128, 64
_OUTLINE = 0.9
_OUTLINE_RGB = np.array((22.0, 20.0, 24.0), dtype=np.float32)[:, None, None]


def frames(timeline: Timeline, times_s: Sequence[float], width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Frames ``(T, height, width, 3)``, uint8 RGB, at these times (seconds).

    Places stretch with the picture; things keep their shape, so a square picture shows them as large as a wide one
    of its height, closer together.
    """
    canvas = _backdrop(timeline, width, height)
    out = np.empty((len(times_s), height, width, 3), dtype=np.uint8)
    out[:] = _bytes(canvas)
    for thing in timeline.things:
        stage = _Stage(thing, canvas, width, height)
        for frame, time_s in zip(out, times_s, strict=True):
            frame[:, stage.columns] = stage.picture(parts(thing, time_s))
    return out


class _Stage:
    """The columns of the picture that belong to one thing; each of its poses is painted once."""

    def __init__(self, thing: Thing, canvas: FloatArray, width: int, height: int) -> None:
        self._unit = min(width, height) / 64
        centre, half = thing.x * width / WIDTH, min(width / 4, 18 * self._unit)
        self.columns = slice(max(0, math.floor(centre - half)), min(width, math.ceil(centre + half)))
        # Colours first while painting: numpy is five times slower where the last axis has three values.
        self._canvas = np.ascontiguousarray(canvas[:, self.columns].transpose(2, 0, 1))
        self._x = ((np.arange(width, dtype=np.float32) + 0.5 - centre) / self._unit)[self.columns]
        self._y = (np.arange(height, dtype=np.float32) + 0.5) * 64 / height
        self._stretch = height / (64 * self._unit)
        self._poses: dict[tuple[Part, ...], NDArray[np.uint8]] = {}
        self._outlines: dict[tuple[Any, ...], _Outline] = {}

    def picture(self, shown: tuple[Part, ...]) -> NDArray[np.uint8]:
        """The columns with these parts on them."""
        if shown not in self._poses:
            picture = self._canvas.copy()
            for part in shown:
                if part.opacity > 0:
                    self._paint(picture, part)
            self._poses[shown] = _bytes(picture.transpose(1, 2, 0))
        return self._poses[shown]

    def _paint(self, picture: FloatArray, part: Part) -> None:
        outline = self._outline(part)
        window, rgb = picture[outline.window], np.asarray(part.rgb, dtype=np.float32)[:, None, None]
        if part.opacity == 1:
            window *= outline.outside
            window += outline.dark
            window += outline.inside * rgb
        else:
            window += (rgb - window) * (outline.inside * np.float32(part.opacity))

    def _outline(self, part: Part) -> _Outline:
        key = (part.shape, part.x, part.y, part.half_width, part.half_height, part.angle)
        if key not in self._outlines:
            self._outlines[key] = self._drawn(part)
        return self._outlines[key]

    def _drawn(self, part: Part) -> _Outline:
        across, down = part.half_width, part.half_height
        if part.angle:
            across = down = max(across, down) if part.shape == "disc" else math.hypot(across, down)
        left, right = np.searchsorted(self._x, (part.x - across - 3, part.x + across + 3))
        top, bottom = np.searchsorted(self._y, (part.y - down - 3, part.y + down + 3))
        u, v = self._x[None, left:right] - part.x, (self._y[top:bottom, None] - part.y) * self._stretch
        if part.angle:
            cos, sin = math.cos(part.angle), math.sin(part.angle)
            u, v = u * cos + v * sin, v * cos - u * sin
        distance = _distance(part, u, v) * self._unit
        inside = _share(0.5 - distance)
        border = _share(0.5 + _OUTLINE * self._unit - distance)
        return _Outline(
            window=np.s_[:, top:bottom, left:right],
            inside=inside,
            outside=1 - border,
            dark=(border - inside) * _OUTLINE_RGB,
        )


class _Outline(NamedTuple):
    """How much of each pixel of a window ``(h, w)`` a part covers, or leaves; and its dark edge ``(3, h, w)``."""

    window: tuple[slice, slice, slice]
    inside: FloatArray
    outside: FloatArray
    dark: FloatArray


def _share(values: FloatArray) -> FloatArray:
    return np.asarray(np.minimum(np.maximum(values, 0), 1))


def _bytes(picture: FloatArray) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.minimum(np.maximum(picture, 0), 255), dtype=np.uint8)


def _distance(part: Part, u: FloatArray, v: FloatArray) -> FloatArray:
    """Approximate signed distance to a part's outline in units, negative inside."""
    w, h = part.half_width, part.half_height
    match part.shape:
        case "disc":
            return np.asarray((np.sqrt((u / w) ** 2 + (v / h) ** 2) - 1) * min(w, h))
        case "box":
            return np.asarray(np.maximum(np.abs(u) - w, np.abs(v) - h))
        case "triangle":
            # The tip is up: its sides lean by half of the base over the height.
            slant = math.hypot(2 * h, w)
            return np.asarray(np.maximum((2 * h * np.abs(u) - w * (v + h)) / slant, v - h))
    raise ValueError(f"playground: unknown shape {part.shape!r}")


def _backdrop(timeline: Timeline, width: int, height: int) -> FloatArray:
    """The empty scene ``(height, width, 3)``: a wall of tiles or planks, or hills; and a floor."""
    look = timeline.look
    unit = min(width, height) / 64
    x = ((np.arange(width, dtype=np.float32) + 0.5) / unit)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5) * 64 / height)[:, None]
    wall, floor = np.asarray(look.wall, dtype=np.float32), np.asarray(look.floor, dtype=np.float32)
    shade = _pattern(timeline.theme, x, y, look.pattern)
    canvas = wall[None, None, :] * shade[:, :, None]
    if timeline.theme == "yard":
        hills = y > 40 + 4 * np.sin(x / look.pattern)
        canvas = np.where(hills[:, :, None], floor * 1.35, canvas)
    canvas = np.where((y > FLOOR)[:, :, None], floor, canvas)
    canvas += (look.slope[0] * (x / x[0, -1] - 0.5) + look.slope[1] * (y / 64 - 0.5))[:, :, None]
    if look.grain:
        # One still texture: grain that flickers would only spend the encoder's bits.
        rng = np.random.default_rng([timeline.seed, 104729])
        canvas += rng.normal(0.0, look.grain, size=(height, width, 1))
    return canvas.astype(np.float32)


def _pattern(theme: str, x: FloatArray, y: FloatArray, period: float) -> FloatArray:
    """Factors of the wall's brightness."""
    match theme:
        case "kitchen":
            joint = ((x % period) < 1.4) | ((y % period) < 1.4)
            return np.where(joint, 0.66, 1.0)
        case "workshop":
            planks = np.where((x // period) % 2 == 0, 1.0, 0.72)
            return np.asarray(planks + 0 * y)
        case _:
            return np.asarray(1.15 - 0.35 * y / 64 + 0 * x)

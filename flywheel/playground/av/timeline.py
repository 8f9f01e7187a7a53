"""What happens in a clip of the audio-visual world: things that act at known moments, sounds at known moments.

Picture, sound, texts and the oracle are all made from one timeline. Times are seconds; places are units of a plane
128 wide and 64 high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flywheel.playground.av.kinds import KINDS

if TYPE_CHECKING:
    from flywheel.playground.av.worlds import World

DURATION_S = 3.2
#: Faults that can be planted, by the names that the oracle has for them.
FAULTS = ("mismatch", "shift", "off_screen", "silent", "no_track")
_SOURCES = {"mismatch": "none", "off_screen": "off_screen", "silent": "silent", "no_track": "none"}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A visible thing: how it looks, where it stands and when it acts, each time for ``hold_s``.

    ``kind`` names the sound that such a thing makes. Without times it stands still.
    """

    kind: str
    size: str
    colour: str
    side: str
    tint: tuple[int, int, int]
    x: float
    radius: float
    turn: float
    times_s: tuple[float, ...]
    hold_s: float

    @property
    def name(self) -> str:
        """What the thing is: ``ball``, ``clock``, …"""
        return KINDS[self.kind].thing


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound that is repeated at ``times_s``, each time for ``hold_s``; the rest is its timbre.

    ``tuning`` is a factor of the frequency, ``brightness`` in [0, 1] the share of upper partials, ``decay`` a factor
    of how long it rings.
    """

    kind: str
    pitch: str
    times_s: tuple[float, ...]
    hold_s: float
    gain: float
    tuning: float
    brightness: float
    decay: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """The backdrop: the wall's and the floor's colours (RGB), width of its pattern, slopes of light, grain."""

    wall: tuple[int, int, int]
    floor: tuple[int, int, int]
    pattern: float
    slope: tuple[float, float]
    grain: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A clip of ``DURATION_S``: what is seen from left to right, what is heard by time, and the planted fault.

    ``offset_s`` is how much later than its thing each sound comes. ``ambience`` is the RMS of the noise under it.
    """

    world: World
    seed: int
    theme: str
    look: Look
    things: tuple[Thing, ...]
    sounds: tuple[Sound, ...]
    ambience: float
    fault: str = ""
    offset_s: float = 0.0

    @property
    def has_track(self) -> bool:
        """Whether the clip has an audio track at all."""
        return self.fault != "no_track"

    @property
    def matched(self) -> bool:
        """Whether what is heard belongs to the scene; shifted sounds and those from off screen do."""
        return self.fault not in ("mismatch", "silent", "no_track")

    @property
    def source(self) -> str:
        """Where what is heard comes from: ``on_screen``, ``off_screen``, ``silent`` or ``none``.

        ``silent``: things act and nothing sounds. ``none``: no track, or a sound that nothing in the scene makes.
        """
        return _SOURCES.get(self.fault, "on_screen")

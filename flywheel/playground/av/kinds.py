"""The ten kinds of the audio-visual world: what sounds, what is seen to make it, and where such things are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A sound, the thing that makes it and the theme of the scenes that it stands in.

    ``sustained`` kinds sound for as long as the thing acts; the others ring out after one blow.
    """

    sound: str
    thing: str
    theme: str
    sustained: bool = False


_ALL: Final = (
    Kind(sound="beep", thing="lamp", theme="kitchen"),
    Kind(sound="hiss", thing="kettle", theme="kitchen", sustained=True),
    Kind(sound="tick", thing="clock", theme="kitchen"),
    Kind(sound="knock", thing="hammer", theme="workshop"),
    Kind(sound="hum", thing="fan", theme="workshop", sustained=True),
    Kind(sound="rumble", thing="engine", theme="workshop", sustained=True),
    Kind(sound="bounce", thing="ball", theme="yard"),
    Kind(sound="bell", thing="bell", theme="yard"),
    Kind(sound="rise", thing="rocket", theme="yard", sustained=True),
    Kind(sound="fall", thing="kite", theme="yard", sustained=True),
)
#: Name of the sound -> its kind.
KINDS: Final = {kind.sound: kind for kind in _ALL}
THEMES: Final = ("kitchen", "workshop", "yard")
SIZES: Final = ("small", "large")
COLOURS: Final = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SIDES: Final = ("left", "middle", "right")
PITCHES: Final = ("low", "high")
MAX_COUNT: Final = 4
#: Large things sound low, small ones high.
PITCH_OF: Final = {"large": "low", "small": "high"}


def kinds_of(theme: str) -> tuple[str, ...]:
    """The names of a theme's kinds."""
    return tuple(name for name, kind in KINDS.items() if kind.theme == theme)

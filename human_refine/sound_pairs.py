"""Pairs of sounds of a clip that people choose between: the original and the edited one, whose files others make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from flywheel.core.errors import MediaError
from human_refine.pairs import Pair

#: What ids of sounds begin with, in place of annotations': the original first, then the edited one.
SOUND = "sound:"


def sound_pair(clip_id: str, original: str, version: str) -> Pair:
    """The pair of a clip's original sound and an edited version."""
    return Pair(clip_id=clip_id, first_id=SOUND + original, second_id=SOUND + version)


def is_of_sounds(first_id: str) -> bool:
    """Whether a choice whose first side has this id is one between sounds."""
    return first_id.startswith(SOUND)


class SoundPairs(Protocol):
    """What knows the edited sounds that stand, and makes films with either sound."""

    def stamp(self) -> object:
        """Changes with the pairs."""
        ...

    def pairs(self) -> Sequence[Pair]:
        """The pairs that people may be asked about, in the order in which they should hear them."""
        ...

    def film(self, pair: Pair, *, edited: bool) -> Path:
        """A video that browsers play, of the clip with this sound; both sounds of a pair are equally loud.

        Raises MediaError where it can't be made, :class:`human_refine.making.BeingMade` where it is not there yet.
        """
        ...


class NoSounds:
    """Where nothing edits sounds."""

    def stamp(self) -> object:
        return None

    def pairs(self) -> Sequence[Pair]:
        return ()

    def film(self, pair: Pair, *, edited: bool) -> Path:
        raise MediaError("no sound is edited here")

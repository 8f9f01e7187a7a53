"""Blind choices between a clip's two sounds: as :mod:`human_refine.comparing` has it of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.core.types import Preference
from flywheel.store.parts import changes
from flywheel.store.preferences import choices_of
from human_refine.comparing import MOST_BACK, Comparing, Side
from human_refine.pairs import Pair
from human_refine.service import Gone, ReviewService, clip_fields
from human_refine.sound_pairs import SoundPairs, is_of_sounds


class Hearing(Comparing):
    """The page of sounds' actions. Both sides are told apart by where they are played alone."""

    def __init__(self, service: ReviewService, sounds: SoundPairs) -> None:
        super().__init__(service)
        self._sounds = sounds

    def _stamp(self) -> object:
        return self._sounds.stamp(), changes(self.workspace, ("clips",)).takedowns

    def _found(self) -> tuple[list[Pair], list[Pair]]:
        return list(self._sounds.pairs()), []

    def _is_mine(self, preference: Preference) -> bool:
        return is_of_sounds(preference.first_id)

    def _is_offered(self) -> bool:
        return True

    def shown(self, i: str, refiner: str) -> dict[str, Any]:
        """What the page shows of a pair; which sound is edited is not told. Raises Gone where the clip is gone."""
        clip = self._service.queue.clip(self._pair(i).clip_id)
        if clip is None:
            raise Gone("this clip is gone")
        fields = clip_fields(clip)
        return {
            "pair_id": i,
            "clip_id": fields["clip_id"],
            "start_s": 0.0,
            "end_s": fields["end_s"] - fields["start_s"],
            "films": {side: f"/media/sounds/{i}/{side}" for side in ("left", "right")},
            "lease_s": self.workspace.config.review.lease_s,
        }

    def film(self, i: str, side: str, refiner: str) -> Path:
        """The clip with the sound that this person hears on a side.

        Raises Gone, MediaError where it can't be made, BeingMade where it is not there yet.
        """
        pair = self._pair(i)
        clip = self._service.queue.clip(pair.clip_id)
        if clip is None:
            raise Gone("this clip is gone")
        left: Side = self.left_of(i, refiner)
        return self._sounds.film(pair, edited=(left == "second") == (side == "left"))

    def revealed(self, refiner: str) -> dict[str, Any] | None:
        """Of who has heard all pairs: how often that one chose the original, and the edited sound; None before."""
        pairs = self._look()
        if not pairs.open or next(self._open_to(pairs, refiner), None) is not None:
            return None
        mine = {p.pair_id: p for p in reversed(choices_of(self.workspace, refiner, len(pairs.open) * 2 + MOST_BACK))}
        chosen = [p.chosen for i, p in mine.items() if i in pairs.open]
        return {
            "rounds": [],
            "chosen": [chosen.count("first"), chosen.count("second")],
            "equal": chosen.count("equal"),
            "both_bad": chosen.count("both_bad"),
        }

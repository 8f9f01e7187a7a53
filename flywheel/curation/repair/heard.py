"""What people's blind choices between sounds say: how often the edited one is better, and from which rise on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.core.errors import UserError
from flywheel.core.types import Preference, standing_choices
from flywheel.curation.repair.plan import parse
from flywheel.curation.repair.quality import QUALITY
from flywheel.metrics.preference import WinRate
from flywheel.store.view import View
from human_refine.people import excluded
from human_refine.sound_pairs import SOUND, is_of_sounds

#: What a choice says of the edited sound, which is the second of a pair.
_OUTCOMES = {"first": 0.0, "second": 1.0, "equal": 0.5, "both_bad": 0.5}


@dataclass(frozen=True, kw_only=True)
class HeardChoice:
    """A choice on a video's edited sound: 1 where that was better, 1/2 for neither.

    ``rise`` is by how much the less of synchrony and agreement had risen when the edit was taken; None where these did
    not decide on it, as for edits of noise and level.
    """

    outcome: float
    rise: float | None
    refiner: str


def heard_choices(view: View) -> list[HeardChoice]:
    """The first standing choice on each video between its original and an edited sound; excluded people's left out."""
    left_out = excluded(view)
    standing = [
        choice
        for choice in standing_choices(p for p in view.preference_records() if is_of_sounds(p.first_id))
        if choice.refiner not in left_out and choice.chosen in _OUTCOMES
    ]
    if not standing:
        return []
    rises, videos = _rises(view, standing), _videos(view, standing)
    found: dict[str, HeardChoice] = {}
    for choice in standing:
        video, version = videos.get(choice.clip_id), choice.second_id.removeprefix(SOUND)
        if video is not None and version in rises:
            said = HeardChoice(outcome=_OUTCOMES[choice.chosen], rise=rises[version], refiner=choice.refiner)
            found.setdefault(video, said)
    return list(found.values())


def said_by_people(view: View, alpha: float = 0.05) -> dict[str, Any]:
    """``edited_better`` with its interval, and ``margin`` as :func:`margin_of` has it; empty where nobody chose."""
    choices = heard_choices(view)
    if not choices:
        return {}
    rate = WinRate(choice.outcome for choice in choices)
    return {
        "edited_better": asdict(rate.interval(alpha)),
        "refiners": len({choice.refiner for choice in choices}),
        "margin": margin_of(choices, alpha),
    }


def margin_of(choices: Iterable[HeardChoice], alpha: float = 0.05) -> float | None:
    """The least rise from which on people surely prefer edits in time at least as often; None where that is open.

    Choices are taken in the order of their rises, the highest first. That order is known before anybody chooses, and
    the evidence holds after every choice at once (:class:`WinRate`), so all cuts may be looked at.
    """
    rate, least = WinRate(), None
    risen = [(choice.rise, choice.outcome) for choice in choices if choice.rise is not None]
    for rise, outcome in sorted(risen, key=lambda choice: -choice[0]):
        rate.add(outcome)
        # As the interval's lower bound at 1/2, which is of both sides.
        if rate.e_value >= 2 / alpha:
            least = rise
    return least


def _rises(view: View, choices: Iterable[Preference]) -> dict[str, float | None]:
    """Version -> how much the less of synchrony and agreement had risen; None where they did not decide."""
    clips = sorted({choice.clip_id for choice in choices})
    rises = dict[str, float | None]()
    for clip_id in clips:
        for row in view.sound_versions(clip_id).iter_rows(named=True):
            if row["version"]:
                before, after = json.loads(row["before"]), json.loads(row["after"])
                rise = min((after[name] - before[name] for name in before if name != QUALITY), default=0.0)
                rises[row["version"]] = rise if QUALITY not in before or _by_picture(row["plan"]) else None
    return rises


def _by_picture(text: str) -> bool:
    """Whether synchrony and agreement had to rise for a plan on record; so for what another package did, now away."""
    try:
        made = parse(text)
    except UserError:
        return True
    return made.by_picture or not made.by_quality


def _videos(view: View, choices: Iterable[Preference]) -> dict[str, str]:
    """Clip -> the content of its file, of those that are there."""
    clips = {choice.clip_id for choice in choices}
    return dict(view.records.rows("clips", clips, ["id", "content_hash"]).iter_rows())

"""What a corpus tells of itself before any of its sounds is judged: usual levels, and what rewards are worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.types import Clip
from flywheel.curation.repair.calibrating import Calibrating
from flywheel.curation.repair.measures import Measures, Norms, Picture, measures
from flywheel.curation.repair.quality import Quality
from flywheel.curation.repair.rewards import Rewards
from flywheel.curation.repair.scales import Scale
from flywheel.media.audio import read_audio
from flywheel.media.grey import read_grey
from flywheel.sound.motion import visual_events
from flywheel.store import Workspace

#: The rate that sounds are judged at.
RATE_HZ = 16_000
#: Of longer clips so many seconds are judged, from the beginning: edits of time count from there.
MOST_S = 60.0
#: With fewer pairs that were made wrong nothing is known of the corpus; four clips give as many.
FEWEST = 3
#: Where the workspace keeps them.
_META = "repair_standards"
#: Changes with what measures and rewards give.
_VERSION = 4


@dataclass(frozen=True, kw_only=True)
class Standards:
    """What is usual in a corpus, as some of its clips told, of which ``tried`` were read."""

    norms: Norms
    rewards: Rewards
    tried: int

    def to_json(self) -> str:
        scales = {name: asdict(scale) for name, scale in self.rewards.scales.items()}
        told = {"version": _VERSION, "tried": self.tried, "norms": asdict(self.norms), "scales": scales}
        quality = self.rewards.quality
        told |= {"falls": dict(self.rewards.falls), "quality": quality.to_json() if quality is not None else None}
        return json.dumps(told)

    @classmethod
    def from_json(cls, text: str) -> Standards | None:
        """The standards that were written; None where another version wrote them."""
        told = json.loads(text)
        if told["version"] != _VERSION:
            return None
        scales = {name: Scale(**scale) for name, scale in told["scales"].items()}
        quality = Quality.from_json(told["quality"]) if told["quality"] is not None else None
        rewards = Rewards(scales=scales, quality=quality, falls=told["falls"])
        return cls(norms=Norms(**told["norms"]), rewards=rewards, tried=told["tried"])


@dataclass(frozen=True, kw_only=True)
class Perceived:
    """A clip's sound, mono (n,) at :data:`RATE_HZ`, and what happens in its picture."""

    samples: NDArray[np.float32]
    picture: Picture

    def measures(self) -> Measures:
        """Figures of both."""
        return measures(self.samples, RATE_HZ, self.picture)


def perceived(workspace: Workspace, clip: Clip) -> Perceived:
    """What is heard in a clip's original and seen. Raises MediaError where it can't be read."""
    end_s = min(clip.end_s, clip.start_s + MOST_S)
    check: Callable[[], None] = partial(workspace.originals.check, clip.uri, clip.content_hash)
    with one_item():
        check()
        samples = read_audio(Path(clip.uri), clip.start_s, end_s, rate_hz=RATE_HZ)
        drawn_s, grey = read_grey(Path(clip.uri), clip.start_s, end_s)
        check()
        times_s, events = visual_events(grey, drawn_s)
    return Perceived(samples=samples, picture=Picture(events=events, times_s=times_s))


def standards_of(workspace: Workspace, clips: Iterable[Clip], most: int) -> Standards | None:
    """The standards on record; measured on the first ``most`` of the clips that can be read where there are none.

    They stay: what was judged by them is not judged by others later. They are measured again where there were fewer
    clips than that, and are more now. None where there are too few, or where rewards do not tell clips from pairs that
    were made wrong. The caller holds the lock.
    """
    text, some = workspace.meta(_META), list(islice(clips, most))
    known = Standards.from_json(text) if text else None
    if known is not None and not known.rewards.tell:
        known = None
    if known is not None and known.tried >= len(some):
        return known
    made = _standards(workspace, some)
    if made is None:
        return known
    workspace.set_meta(_META, made.to_json())
    return made


def _standards(workspace: Workspace, clips: Sequence[Clip]) -> Standards | None:
    """The standards that these clips tell; None where they tell none. Two of them are held at a time."""
    calibrating = Calibrating()
    for clip in clips:
        try:
            here = perceived(workspace, clip)
        except MediaError:
            # Whoever looks at it afterwards says so.
            continue
        calibrating.add(here.samples, RATE_HZ, here.picture, clip.content_hash)
    if calibrating.wrong < FEWEST:
        return None
    usual, rewards = calibrating.result()
    return Standards(norms=usual, rewards=rewards, tried=len(clips)) if rewards.tell else None

"""The bodies that the page's API takes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flywheel.core.types import Cue
from human_refine.saving import SaveRequest

_ID, _NO_NULL = r"^[\w.\-]+$", r"^[^\x00]+$"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NextBody(_Body):
    """Asks for the next text; ``without`` is one that the person does not want now. ``anchors_first``: of an anchor
    clip, as long as one is left."""

    without: str = Field("", max_length=64)
    anchors_first: bool = False


class LeaseBody(_Body):
    """Asks to keep a text that is open in the page."""

    annotation_id: str = Field(max_length=64)


class PairBody(_Body):
    """Asks for the next pair of texts, without one that the person has and does not want now; or to keep one."""

    pair_id: str = Field("", max_length=64)


class ChoiceBody(_Body):
    """What a person chose of two texts, by where they were shown."""

    pair_id: str = Field(min_length=1, max_length=64, pattern=_ID)
    chosen: Literal["left", "right", "equal", "both_bad", "skip"]
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)
    save_id: str = Field(min_length=8, max_length=64, pattern=r"^[\w\-]+$")


class OpenBody(_Body):
    """Asks for one text by its id."""

    annotation_id: str = Field(min_length=1, max_length=64, pattern=_ID)


class FlagBody(_Body):
    """Flags a text for the leads, or takes the flag away."""

    annotation_id: str = Field(min_length=1, max_length=64, pattern=_ID)
    flagged: bool
    note: str = Field("", max_length=2000)


class InviteBody(_Body):
    """Invites a refiner."""

    name: str = Field(min_length=1, max_length=40)


class ExcludeBody(_Body):
    """Leaves a refiner's words out, or takes them in again."""

    name: str = Field(min_length=1, max_length=200, pattern=_NO_NULL)
    reason: str = Field(min_length=1, max_length=500, pattern=_NO_NULL)
    undo: bool = False


class ClipVerdictBody(_Body):
    """Keeps or drops a clip for training."""

    kept: bool
    reason: str = Field(min_length=1, max_length=500, pattern=r"\S")


class CueBody(_Body):
    """One cue; times are in seconds from the clip's start."""

    start_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    end_s: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    text: str


class SaveBody(_Body):
    """What a person says of a text; the fields are those of :class:`SaveRequest`."""

    annotation_id: str = Field(min_length=1, max_length=64)
    verdict: Literal["accept", "edit", "reject", "skip", "cant_tell"]
    text: str = ""
    cues: list[CueBody] = Field(default_factory=list, max_length=500)
    reason: str = ""
    gold: bool = False
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)
    base: str = Field("", max_length=64)
    save_id: str = Field(min_length=8, max_length=64, pattern=r"^[\w\-]+$")

    def request(self) -> SaveRequest:
        """The same, as the service takes it."""
        return SaveRequest(
            annotation_id=self.annotation_id,
            verdict=self.verdict,
            text=self.text,
            reason=self.reason,
            seconds=self.seconds,
            base=self.base,
            save_id=self.save_id,
            cues=[Cue(start_s=cue.start_s, end_s=cue.end_s, text=cue.text) for cue in self.cues],
            gold=self.gold,
        )

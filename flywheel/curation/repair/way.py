"""How a run of repair looks at clips: settings, standards, planner, limits and vetoes, and the key of them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flywheel.core.config import Repair
from flywheel.core.types import content_id
from flywheel.curation.repair.asking import PlanModel
from flywheel.curation.repair.loop import Limits
from flywheel.curation.repair.planners import Planner, planner, role_of
from flywheel.curation.repair.recogniser import Recogniser, recogniser_of
from flywheel.curation.repair.standards import Standards, standards_of
from flywheel.curation.repair.vetoes import VETOES, Veto
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

#: Changes with what actions, rewards or vetoes give: clips are looked at anew then.
CODE = "2"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How clips are looked at. ``key`` is of all that decides what becomes of one."""

    settings: Repair
    standards: Standards
    planner: Planner
    limits: Limits
    vetoes: Mapping[str, Veto]
    recogniser: Recogniser | None
    model: PlanModel | None
    key: str

    def record_id(self, clip_id: str, number: int) -> str:
        """The id of a clip's record of this way, where it has ``number`` before it."""
        return content_id("sound version", clip_id, self.key, number)


def way_of(workspace: Workspace, index: ClipIndex, settings: Repair) -> Way | None:
    """How clips are looked at; None where too few tell what is usual."""
    plans = planner(settings.planner)
    role = role_of(plans)
    model = PlanModel(workspace, role) if role else None
    recogniser = recogniser_of(settings.recogniser, workspace.root, workspace.config.transcribe)
    audible = (clip for clip in index.of("train", "test", "anchor").by_id() if clip.has_audio)
    standards = standards_of(workspace, audible, settings.calibration_clips)
    if standards is None:
        return None
    vetoes = {**VETOES, "speech": recogniser.veto} if recogniser is not None else VETOES
    margins = settings.margin, settings.quality_margin
    decides: tuple[object, ...] = (settings.planner, *margins, settings.enough, settings.cycles)
    if model is not None:
        decides = (*decides, settings.no_plans, *model.digests())
    return Way(
        settings=settings,
        standards=standards,
        planner=plans,
        limits=Limits(
            margin=settings.margin,
            quality_margin=settings.quality_margin,
            falls=standards.rewards.falls,
            enough=settings.enough,
            cycles=settings.cycles,
            no_plans=settings.no_plans,
        ),
        vetoes=vetoes,
        recogniser=recogniser,
        model=model,
        key=content_id("repair", CODE, *decides, recogniser.source if recogniser is not None else ""),
    )

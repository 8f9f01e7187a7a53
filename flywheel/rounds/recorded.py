"""A round's figures as they stand on record, without a model or a clip being looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.core.types import Estimate, RoundReport
from flywheel.rounds.progress import order_of
from flywheel.store import Workspace


def recorded(workspace: Workspace, round: int, num_corrections: int | None = None) -> RoundReport:
    """The figures of a round; ``num_corrections`` as its stage `review` counted them if left out."""
    measured = workspace.stage(round, "evaluate")[1]
    results = {stage: workspace.stage(round, stage)[1] for stage in order_of(workspace, round) if stage != "evaluate"}
    if num_corrections is None:
        num_corrections = int(results.get("review", {}).get("num_corrections", 0))
    return RoundReport(
        round=round,
        num_corrections=num_corrections,
        quantity=measured.get("quantity", {}),
        diversity=_estimates(measured, "diversity"),
        quality=_estimates(measured, "quality"),
        oracle=_estimates(measured, "oracle"),
        watch=_estimates(measured, "watch"),
        extra=_estimates(measured, "extra"),
        stages_s=workspace.stages_s(round),
        details={stage: result for stage, result in results.items() if result},
    )


def _estimates(measured: Mapping[str, Any], group: str) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in measured.get(group, {}).items()}

"""What people ask of a workspace: where it stands, a clip's history, uses of corrections, two rounds side by side."""

from __future__ import annotations

from flywheel.status.comparison import comparison_text
from flywheel.status.history import ClipHistory, TextHistory, history_of
from flywheel.status.standing import RejectReason, ScheduleStatus, SkippedStage, Status, UnseenAdapter, status_of
from flywheel.status.uses import CorrectionUse, uses_of

__all__ = [
    "ClipHistory",
    "CorrectionUse",
    "RejectReason",
    "ScheduleStatus",
    "SkippedStage",
    "Status",
    "TextHistory",
    "UnseenAdapter",
    "comparison_text",
    "history_of",
    "status_of",
    "uses_of",
]

"""What models said of clips' pictures and sounds, for planners that read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.core.types import LEARN, MEASURE
from flywheel.curation.judge import shown_texts
from flywheel.store import Workspace

#: Rounds back that are looked in: older words are of another describer.
_ROUNDS = 4


#: Texts by kind (``seen``, ``heard``) and clip.
Texts = Mapping[str, Mapping[str, str]]


def described(workspace: Workspace, clip_ids: Sequence[str], round: int) -> Texts:
    """The newest text of what is seen, and of what is heard; clips without one are left out."""
    texts: dict[str, dict[str, str]] = {"seen": {}, "heard": {}}
    for kind, known in texts.items():
        for number in range(round, max(-1, round - _ROUNDS), -1):
            for purpose in (MEASURE, LEARN):
                if left := [clip_id for clip_id in clip_ids if clip_id not in known]:
                    known |= shown_texts(workspace, left, number, kind, purpose)
    return texts

"""Two rounds' texts of anchors side by side, in the workspace whose first round has texts."""

from __future__ import annotations

from dataclasses import replace

from flywheel.core.types import Annotation
from flywheel.store import Workspace
from flywheel.store.view import clip_of


def measured(clip_id: str, round: int, text: str) -> Annotation:
    """A caption by which a round is measured."""
    names = {"id": f"m{round}-{clip_id}", "clip_id": clip_id, "generation_id": "", "source": "model"}
    return Annotation(**names, round=round, kind="caption", text=text, mean_logprob=-1.0, purpose="measure")


def write_pairs(workspace: Workspace, more: int = 0) -> list[str]:
    """Texts of the base and of an evaluated round 1 for all anchors; returns their clips' ids.

    The last clip's are in the same words, but for their white space. ``more`` anchors show what train clips show.
    """
    train = [clip_of(row) for row in workspace.clips("train").head(more).iter_rows(named=True)]
    workspace.add_clips([replace(clip, id=f"more{n}", split="anchor") for n, clip in enumerate(train)])
    clips = sorted(workspace.clips("anchor")["id"])
    for round, words in ((0, "the older text"), (1, "the newer text")):
        texts = [f"{words} of clip {n}" for n in range(len(clips) - 1)] + [["the  same", "the same "][round]]
        workspace.add_annotations([measured(c, round, t) for c, t in zip(clips, texts, strict=True)], round)
        workspace.set_stage(round, "evaluate", "done", {})
    return clips

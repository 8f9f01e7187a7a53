"""The newest text of each clip, as a view over the records: what people said first, then the best source that there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from flywheel.core.types import Annotation, Correction, corrected, standing
from flywheel.metrics import token_f1
from flywheel.store import Workspace
from flywheel.store.workspace import annotation_of
from human_refine.people import leads

CAPTION, EVALUATION = "caption", "evaluation"


@dataclass(frozen=True, kw_only=True)
class HumanText:
    """What people made of a clip's text: ``text`` is None where they rejected it. ``annotation_id`` is what they looked at."""

    text: str | None
    annotation_id: str
    corrections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """Which source a round learns from, and the anchors' mean token F1 of each (round -> value; empty without enough anchors)."""

    round: int
    anchor_f1: Mapping[int, float]
    num_anchors: int


class Texts:
    """The texts as of now; read once per stage."""

    def __init__(self, workspace: Workspace) -> None:
        self._captions: dict[int, dict[str, Annotation]] = {}
        by_id: dict[str, Annotation] = {}
        for row in workspace.annotations(kind=CAPTION).iter_rows(named=True):
            annotation = annotation_of(row)
            self._captions.setdefault(annotation.round, {})[annotation.clip_id] = annotation
            by_id[annotation.id] = annotation
        clips = workspace.clips()
        self._split = dict(zip(clips["id"], clips["split"], strict=True))
        self.human = _human_texts(by_id, workspace.correction_records(), leads(workspace))

    def captions(self, round: int) -> Mapping[str, Annotation]:
        """The round's captions by clip id; round 0's are what came with the videos."""
        return self._captions.get(round, {})

    def anchors(self) -> dict[str, str]:
        """Corrected texts of anchor clips, by clip id."""
        return {c: h.text for c, h in self.human.items() if h.text is not None and self._split.get(c) == "anchor"}

    def choose(self, up_to: int, minimum: int, policy: str) -> SourceChoice:
        """The source to learn from: the round whose texts the anchors find best, the newest where they can't tell.

        A base model new to the corpus may write worse than what came with the videos; learning from it then would unlearn.
        """
        anchors = self.anchors()
        rounds = sorted(r for r in self._captions if r <= up_to)
        if not rounds:
            return SourceChoice(round=up_to, anchor_f1={}, num_anchors=len(anchors))
        scores: dict[int, float] = {}
        if anchors:
            for round in rounds:
                said = self._captions[round]
                values = [token_f1(said[c].text if c in said else "", text) for c, text in anchors.items()]
                scores[round] = sum(values) / len(values)
        if policy == "newest" or len(anchors) < minimum:
            return SourceChoice(round=rounds[-1], anchor_f1=scores, num_anchors=len(anchors))
        best = max(rounds, key=lambda r: (scores[r], r))
        return SourceChoice(round=best, anchor_f1=scores, num_anchors=len(anchors))

    def best_before(self, round: int, clip_id: str) -> str | None:
        """The newest text of a clip before a round, for a prompt's `previous` hint."""
        human = self.human.get(clip_id)
        if human is not None and human.text is not None and self._split.get(clip_id) == "train":
            return human.text
        for earlier in sorted((r for r in self._captions if 0 < r < round), reverse=True):
            if clip_id in self._captions[earlier]:
                return self._captions[earlier][clip_id].text
        return None


def _human_texts(
    by_id: Mapping[str, Annotation], corrections: Sequence[Correction], leading: frozenset[str]
) -> dict[str, HumanText]:
    """Clip id -> what people said, the latest round's where several were corrected."""
    grouped: dict[str, list[Correction]] = {}
    for correction in corrections:
        if correction.annotation_id in by_id:
            grouped.setdefault(correction.annotation_id, []).append(correction)
    texts: dict[str, HumanText] = {}
    for annotation_id in sorted(grouped, key=lambda i: (by_id[i].round, i)):
        annotation, said = by_id[annotation_id], standing(grouped[annotation_id])
        if not said:
            continue
        texts[annotation.clip_id] = HumanText(
            text=corrected(annotation, grouped[annotation_id], leading),
            annotation_id=annotation_id,
            corrections=tuple(c.id for c in said.values()),
        )
    return texts


def by_split(clips: pl.DataFrame, *splits: str) -> pl.DataFrame:
    return clips.filter(pl.col("split").is_in(splits))

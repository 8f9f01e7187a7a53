"""The newest text of each clip, as a view over the records: what people said first, then the best source that there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from flywheel.core.types import CAPTION, LEARN, Annotation, Correction, agreement, corrected, standing
from flywheel.metrics import token_f1
from flywheel.metrics.paired import paired_test
from flywheel.store import Workspace
from flywheel.store.workspace import annotation_of
from human_refine.gold import gold_texts
from human_refine.people import active_corrections, leads

#: An older source that anchors find worse at this level leaves the mix.
_WORSE = 0.05


@dataclass(frozen=True, kw_only=True)
class HumanText:
    """What people made of a clip's text: ``text`` is None where they rejected it. ``annotation_id`` is what they looked at, ``agreement``
    how far those who spoke of it agree, in (0, 1]."""

    text: str | None
    annotation_id: str
    corrections: tuple[str, ...]
    agreement: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RejectedText:
    """A text that people rejected, and the ids of the corrections that say so."""

    annotation: Annotation
    corrections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """Which source a round learns from, the older ones that anchors do not show to be worse, and the anchors' mean token F1 of each (round -> value; empty without
    enough anchors)."""

    round: int
    older: tuple[int, ...] = ()
    anchor_f1: Mapping[int, float]
    num_anchors: int


class Texts:
    """The texts as of now; read once per stage."""

    def __init__(self, workspace: Workspace) -> None:
        self._captions: dict[int, dict[str, Annotation]] = {}
        by_id: dict[str, Annotation] = {}
        # What a model wrote that was champion and was taken back is not used; what people made of it is.
        retired = workspace.retired()
        unused = {r for r in workspace.rounds() if retired and workspace.stage(r, "annotate")[1].get("by") in retired}
        for row in workspace.annotations(kind=CAPTION, purpose=LEARN).iter_rows(named=True):
            annotation = annotation_of(row)
            if annotation.round in unused:
                by_id[annotation.id] = annotation
                continue
            self._captions.setdefault(annotation.round, {})[annotation.clip_id] = annotation
            by_id[annotation.id] = annotation
        clips = workspace.clips()
        self._by_id = by_id
        self._split: dict[str, str] = dict(zip(clips["id"], clips["split"], strict=True))
        self._video: dict[str, str] = dict(by_split(clips, "anchor").select("id", "content_hash").iter_rows())
        #: Clips that check refiners: nothing learns from them, or is measured on them.
        self.gold = frozenset(gold_texts(workspace))
        #: What people said of each text, the older rounds' first.
        self._said = [
            said
            for said in _human_texts(by_id, active_corrections(workspace), leads(workspace))
            if by_id[said.annotation_id].clip_id not in self.gold
        ]
        #: Of each clip what people said last.
        self.human = {by_id[said.annotation_id].clip_id: said for said in self._said}

    def captions(self, round: int) -> Mapping[str, Annotation]:
        """The round's captions by clip id; round 0's are what came with the videos."""
        return self._captions.get(round, {})

    def anchors(self) -> dict[str, str]:
        """Corrected texts of anchor clips, by clip id."""
        return {c: h.text for c, h in self.human.items() if h.text is not None and self._split.get(c) == "anchor"}

    def split(self, clip_id: str) -> str:
        return self._split.get(clip_id, "")

    def rejected(self) -> list[RejectedText]:
        """Texts that people rejected, of all rounds: what a model should not say."""
        return [
            RejectedText(annotation=self._by_id[s.annotation_id], corrections=s.corrections)
            for s in self._said
            if s.text is None
        ]

    def choose(self, up_to: int, minimum: int, policy: str) -> SourceChoice:
        """The source to learn from: the round whose texts the anchors find best, the newest where they can't tell.

        A base model new to the corpus may write worse than what came with the videos; learning from it then would unlearn.
        """
        anchors = self.anchors()
        rounds = sorted(r for r in self._captions if r <= up_to)
        if not rounds:
            return SourceChoice(round=up_to, anchor_f1={}, num_anchors=len(anchors))
        values: dict[int, list[float]] = {}
        if anchors:
            for round in rounds:
                said = self._captions[round]
                values[round] = [token_f1(said[c].text if c in said else "", text) for c, text in anchors.items()]
        scores = {round: sum(of) / len(of) for round, of in values.items()}
        tell = len(anchors) >= minimum
        best = rounds[-1] if policy == "newest" or not tell else max(rounds, key=lambda r: (scores[r], r))
        videos = [self._video[c] for c in anchors]
        older = [
            r
            for r in rounds
            if r < best and not (tell and paired_test(values[r], values[best], videos).p_worse <= _WORSE)
        ]
        return SourceChoice(round=best, older=tuple(older), anchor_f1=scores, num_anchors=len(anchors))

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
) -> list[HumanText]:
    """What people said of each text that they spoke of, the latest round's last."""
    grouped: dict[str, list[Correction]] = {}
    for correction in corrections:
        if correction.annotation_id in by_id:
            grouped.setdefault(correction.annotation_id, []).append(correction)
    texts: list[HumanText] = []
    for annotation_id in sorted(grouped, key=lambda i: (by_id[i].round, i)):
        annotation, said = by_id[annotation_id], standing(grouped[annotation_id])
        if not said:
            continue
        texts.append(
            HumanText(
                text=corrected(annotation, grouped[annotation_id], leading),
                annotation_id=annotation_id,
                corrections=tuple(c.id for c in said.values()),
                agreement=agreement(annotation, grouped[annotation_id], leading),
            )
        )
    return texts


def by_split(clips: pl.DataFrame, *splits: str) -> pl.DataFrame:
    return clips.filter(pl.col("split").is_in(splits))

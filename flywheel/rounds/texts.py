"""The newest text of each clip, as a view over the records: what people made of it, else the best source there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from flywheel.core.types import (
    CAPTION,
    LEARN,
    WRITTEN_BLIND,
    Annotation,
    Correction,
    agreement,
    corrected,
    standing,
)
from flywheel.metrics import token_f1
from flywheel.metrics.paired import paired_test
from flywheel.store import View
from flywheel.store.caption_index import CaptionIndexes
from flywheel.store.view import annotation_of
from human_refine.gold import gold_texts
from human_refine.people import active_corrections, leads

#: An older source that anchors find worse at this level leaves the mix.
_WORSE = 0.05
_LEARNED = pl.col("purpose") == LEARN


@dataclass(frozen=True, kw_only=True)
class HumanText:
    """What people made of a clip's text; ``text`` is None where they rejected it, ``payload`` an edit's structure.

    ``annotation_id`` is the text that they looked at, ``agreement`` how far those who judged it agree, in (0, 1].
    ``is_blind`` says that it was written before that text was shown.
    """

    text: str | None
    annotation_id: str
    corrections: tuple[str, ...]
    payload: str = ""
    agreement: float = 1.0
    is_blind: bool = False


@dataclass(frozen=True, kw_only=True)
class RejectedText:
    """A text that people rejected, and the ids of the corrections that say so."""

    annotation: Annotation
    corrections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """The source that a round learns from, and the older ones that anchors do not show to be worse.

    ``anchor_f1`` is the anchors' mean token F1 of each round (empty without anchors).
    """

    round: int
    older: tuple[int, ...] = ()
    anchor_f1: Mapping[int, float]
    num_anchors: int


class CurrentTexts:
    """The captions as they stand now: what people made of them, and the sources beside it.

    Holds what people judged and no more; a round's other captions are read for the clips that are asked of.
    """

    def __init__(self, workspace: View, captions: CaptionIndexes | None = None, removed: Collection[str] = ()) -> None:
        """Read what people judged; ``captions`` are the view's, where they are kept for longer than this.

        Videos (by content) of ``removed`` sources are no anchors.
        """
        self._workspace, self._removed = workspace, frozenset(removed)
        self._captions = captions or CaptionIndexes(workspace)
        #: Clips that check refiners: nothing learns from them, or is measured on them.
        self.gold = frozenset(gold_texts(workspace))
        corrections = active_corrections(workspace)
        judged = self._corrected({c.annotation_id for c in corrections})
        self._by_id = {its_id: text for its_id, text in judged.items() if text.kind == CAPTION}
        clips = workspace.records.rows("clips", {a.clip_id for a in self._by_id.values()})
        self._split: dict[str, str] = dict(clips.select("id", "split").iter_rows())
        self._video: dict[str, str] = dict(clips.select("id", "content_hash").iter_rows())
        #: What people made of each text of whatever kind, by its id, the older rounds' first.
        self.judged_by_id = {
            human.annotation_id: human
            for human in _human_texts(judged, corrections, leads(workspace))
            if judged[human.annotation_id].clip_id not in self.gold
        }
        self._human = [human for its_id, human in self.judged_by_id.items() if its_id in self._by_id]
        #: Of each clip what people made of it last.
        self.human = {self._by_id[human.annotation_id].clip_id: human for human in self._human}

    def _corrected(self, annotation_ids: set[str]) -> dict[str, Annotation]:
        rows = self._workspace.records.rows("annotations", annotation_ids).filter(_LEARNED)
        return {row["id"]: annotation_of(row) for row in rows.iter_rows(named=True)}

    @cached_property
    def rounds(self) -> tuple[int, ...]:
        """Rounds with captions to learn from; 0 is what came with the videos.

        What a champion wrote that was taken back is not used; what people made of it is.
        """
        workspace = self._workspace
        retired = workspace.retired()
        unused = {r for r, by in workspace.writers().items() if by in retired}
        return tuple(r for r in workspace.records.rounds("annotations") if r not in unused and workspace.count_texts(r))

    def of(self, round: int, clip_ids: Iterable[str]) -> dict[str, Annotation]:
        """The round's captions of these clips, by clip id."""
        wanted = list(clip_ids)
        return self._captions.of(round, wanted) if round in self.rounds and wanted else {}

    def captions(self, round: int) -> Mapping[str, Annotation]:
        """All of the round's captions by clip id, held in memory: for small corpora and tests."""
        if round not in self.rounds:
            return {}
        rows = self._workspace.annotations(round=round, kind=CAPTION, purpose=LEARN)
        return {row["clip_id"]: annotation_of(row) for row in rows.iter_rows(named=True)}

    def anchors(self) -> dict[str, str]:
        """Corrected texts of anchor clips, by clip id."""
        return {
            clip_id: human.text
            for clip_id, human in self.human.items()
            if human.text is not None
            and self._split.get(clip_id) == "anchor"
            and self._video.get(clip_id) not in self._removed
        }

    def shown_anchors(self) -> list[tuple[str, float, bool]]:
        """Of each corrected anchor its video, the word F1 of the text that was shown with people's, and whether that
        was written before it was shown."""
        return [
            (self._video[c], token_f1(self._by_id[self.human[c].annotation_id].text, text), self.human[c].is_blind)
            for c, text in self.anchors().items()
        ]

    def corrections(self, annotation_id: str) -> tuple[str, ...]:
        """Ids of the corrections that say what people made of a text."""
        human = self.judged_by_id.get(annotation_id)
        return human.corrections if human is not None else ()

    def split(self, clip_id: str) -> str:
        """The split of a clip of which people judged a text; empty for others."""
        return self._split.get(clip_id, "")

    def judged(self) -> list[tuple[HumanText, Annotation]]:
        """What people made of each text that they judged, of all rounds, with that text; the older rounds' first."""
        return [(human, self._by_id[human.annotation_id]) for human in self._human]

    def rejected(self) -> list[RejectedText]:
        """Texts that people rejected, of all rounds: what a model should not say."""
        return [
            RejectedText(annotation=self._by_id[human.annotation_id], corrections=human.corrections)
            for human in self._human
            if human.text is None
        ]

    def choose(self, up_to: int, minimum: int, policy: str) -> SourceChoice:
        """The source to learn from: the round whose texts the anchors find best, the newest where they can't tell.

        A base model new to the corpus may write worse than what came with the videos; learning from it would unlearn.
        """
        anchors = self.anchors()
        rounds = sorted(r for r in self.rounds if r <= up_to)
        if not rounds:
            return SourceChoice(round=up_to, anchor_f1={}, num_anchors=len(anchors))
        values: dict[int, list[float]] = {}
        if anchors:
            for round in rounds:
                captions = self.of(round, anchors)
                values[round] = [token_f1(captions[c].text if c in captions else "", t) for c, t in anchors.items()]
        scores = {round: sum(of) / len(of) for round, of in values.items()}
        tell = len(anchors) >= minimum
        best = rounds[-1] if policy == "newest" or not tell else max(rounds, key=lambda r: (scores[r], r))
        videos = [self._video[c] for c in anchors]

        def is_worse(round: int) -> bool:
            return tell and paired_test(values[round], values[best], videos).p_worse <= _WORSE

        older = [r for r in rounds if r < best and not is_worse(r)]
        return SourceChoice(round=best, older=tuple(older), anchor_f1=scores, num_anchors=len(anchors))

    def before(self, round: int, clip_ids: Sequence[str]) -> dict[str, str]:
        """The newest texts of these clips before a round, by clip id, for a prompt's `previous` hint."""
        newest: dict[str, str] = {}
        for earlier in sorted((r for r in self.rounds if 0 < r < round), reverse=True):
            missing = [clip_id for clip_id in clip_ids if clip_id not in newest]
            newest |= {clip_id: caption.text for clip_id, caption in self.of(earlier, missing).items()}
        for clip_id in clip_ids:
            human = self.human.get(clip_id)
            if human is not None and human.text is not None and self._split.get(clip_id) == "train":
                newest[clip_id] = human.text
        return newest


def _human_texts(
    by_id: Mapping[str, Annotation], corrections: Sequence[Correction], leading: frozenset[str]
) -> list[HumanText]:
    """What people made of each text that they judged, the latest round's last."""
    grouped: dict[str, list[Correction]] = {}
    for correction in corrections:
        if correction.annotation_id in by_id:
            grouped.setdefault(correction.annotation_id, []).append(correction)
    texts: list[HumanText] = []
    for annotation_id in sorted(grouped, key=lambda i: (by_id[i].round, i)):
        annotation, latest = by_id[annotation_id], standing(grouped[annotation_id])
        if not latest:
            continue
        text = corrected(annotation, grouped[annotation_id], leading)
        texts.append(
            HumanText(
                text=text,
                annotation_id=annotation_id,
                corrections=tuple(c.id for c in latest.values()),
                payload=next((c.payload for c in reversed(latest.values()) if c.payload and c.text == text), ""),
                agreement=agreement(annotation, grouped[annotation_id], leading),
                is_blind=any(c.reason == WRITTEN_BLIND and c.text == text for c in latest.values()),
            )
        )
    return texts

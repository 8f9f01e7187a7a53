"""Texts that answer questions, as a round learns them: one example a turn, what came before it in view."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from flywheel import kinds
from flywheel.core.config import Pretrain
from flywheel.core.types import CAPTION, HUMAN, LEARN, Annotation, Example
from flywheel.rounds.texts import CurrentTexts, SourceChoice
from flywheel.store import View
from flywheel.store.caption_index import TextsByClip


class QuestionsTaught:
    """Of each clip the questions that a round learns to answer: a model's newest, and those that were given.

    They follow the choice of captions: what the chosen round's model wrote, else the newest of the rounds that the
    choice keeps beside it. Of a model whose captions the anchors find worse nothing is learned.
    """

    def __init__(self, view: View, texts: CurrentTexts, choice: SourceChoice, plan: Pretrain) -> None:
        """``plan`` names the kinds; with captions alone nothing is read."""
        self._judged, self._human_weight = texts.judged_by_id, plan.human_weight
        rounds = [r for r in sorted({*choice.older, choice.round}) if r in texts.rounds and r > 0]
        self._sources = [
            _Source(kind=kind, texts=TextsByClip(view, [(r, kind, LEARN) for r in of]))
            for kind in plan.kinds
            if kind != CAPTION
            for of in ([0], rounds)
        ]

    def of(self, clip_ids: Sequence[str]) -> dict[str, dict[str, list[Example]]]:
        """Examples of these clips by clip id and kind; the shares of a clip's kind add up to 1."""
        made: dict[str, dict[str, list[Example]]] = {}
        for source in self._sources:
            for clip_id, annotation in source.texts.of(clip_ids).items():
                if turns := self._turns(annotation):
                    of_kind = made.setdefault(clip_id, {}).setdefault(source.kind, [])
                    of_kind.extend(self._examples(annotation, turns))
        for by_kind in made.values():
            by_kind |= {kind: _shared_equally(examples) for kind, examples in by_kind.items()}
        return made

    def turns(self, clip_ids: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        """All questions of these clips with their answers by clip id, of each text in order."""
        found: dict[str, tuple[tuple[str, str], ...]] = {}
        for source in self._sources:
            for clip_id, annotation in source.texts.of(clip_ids).items():
                found[clip_id] = found.get(clip_id, ()) + self._turns(annotation)
        return found

    def _turns(self, annotation: Annotation) -> tuple[tuple[str, str], ...]:
        """The turns as people left them; none of what they rejected."""
        human, read = self._judged.get(annotation.id), kinds.get(annotation.kind).turns
        if read is None or (human is not None and human.text is None):
            return ()
        payload = (human.payload if human is not None else "") or annotation.payload
        return read(json.loads(payload)) if payload else ()

    def _examples(self, annotation: Annotation, turns: tuple[tuple[str, str], ...]) -> Iterator[Example]:
        human = self._judged.get(annotation.id)
        for number, (question, answer) in enumerate(turns):
            yield Example(
                clip_id=annotation.clip_id,
                text=answer,
                question=question,
                earlier=turns[:number],
                annotation_id=annotation.id,
                weight=1.0 if human is None else self._human_weight * human.agreement,
                group=f"{annotation.source}:{annotation.round}:{annotation.kind}" if human is None else HUMAN,
            )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Texts of a kind by clip, of a clip one."""

    kind: str
    texts: TextsByClip = field(repr=False)


def _shared_equally(examples: list[Example]) -> list[Example]:
    return [replace(example, share=1 / len(examples)) for example in examples]

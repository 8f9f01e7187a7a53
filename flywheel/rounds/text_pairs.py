"""Pairs of texts of train clips, a better and a worse one, from corrections, blind choices and rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import polars as pl

from flywheel.core.types import CAPTION, HUMAN, Example, Preference, standing_choices
from flywheel.models.prompt import Evidence
from flywheel.rounds.context import RoundContext
from flywheel.rounds.texts import CurrentTexts
from flywheel.store.parts import read_rows
from human_refine.pairs import GOLD
from human_refine.people import excluded
from human_refine.sound_pairs import is_of_sounds

Source = Literal["correction", "preference", "reject"]
#: The most trusted first: of two that contradict each other the first stands.
SOURCES: tuple[Source, ...] = ("correction", "preference", "reject")
#: Why a word of people makes no pair.
EQUAL, TIE, GONE = "the texts are equal", "neither is better", "a text or its clip is gone"
BLIND, ALONE, AGAINST = "written blind", "no other text of the clip", "others say the opposite"
NOT_TRAIN = "not of a train clip"


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """Two texts of a clip, of which people found ``chosen`` better; ``by`` are the ids of what they said.

    ``chosen_id`` and ``rejected_id`` are annotations: of a correction's both the one that was shown. ``weight`` in
    (0, 1] is how far those agree who spoke.
    """

    clip_id: str
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    source: Source
    by: tuple[str, ...]
    weight: float = 1.0


@dataclass(kw_only=True)
class FoundPairs:
    """The pairs in the order of their trust, and why (reason -> number) other words of people made none."""

    pairs: list[TextPair] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def by_source(self) -> dict[str, int]:
        """The number of pairs by where they come from, of sources that have some."""
        return dict(Counter(pair.source for pair in self.pairs))

    def without(self, clip_ids: Collection[str]) -> FoundPairs:
        """The same but for the pairs of these clips."""
        return FoundPairs(pairs=[p for p in self.pairs if p.clip_id not in clip_ids], left_out=self.left_out)


def find_pairs(context: RoundContext, texts: CurrentTexts, sources: Collection[Source] = SOURCES) -> FoundPairs:
    """The pairs that people's words make, of clips that a round trains on: never of anchors, tests or gold clips."""
    makers = {"correction": _of_corrections, "preference": _of_choices, "reject": _of_rejects}
    found, made = FoundPairs(), list[TextPair]()
    for source in SOURCES:
        if source in sources:
            made += makers[source](context, texts, found.left_out)
    trained = _trained(context, texts, {pair.clip_id for pair in made})
    seen: set[tuple[str, str, str]] = set()
    for pair in made:
        chosen, rejected = _folded(pair.chosen), _folded(pair.rejected)
        if pair.clip_id not in trained:
            found.left_out[NOT_TRAIN] += 1
        elif chosen == rejected:
            found.left_out[EQUAL] += 1
        elif (pair.clip_id, rejected, chosen) in seen:
            found.left_out[AGAINST] += 1
        elif (pair.clip_id, chosen, rejected) not in seen:
            seen.add((pair.clip_id, chosen, rejected))
            found.pairs.append(pair)
    return found


def pair_examples(context: RoundContext, pairs: Sequence[TextPair], round: int) -> list[Example]:
    """Each pair's chosen text as an example, and behind it the rejected one."""
    clips = context.split("train").with_ids(sorted({pair.clip_id for pair in pairs}))
    hints = {clip.id: evidence for clip, evidence in context.with_evidence(clips, round)}
    return [
        _example(pair, hints[pair.clip_id], *side)
        for pair in pairs
        for side in ((pair.chosen, pair.chosen_id), (pair.rejected, pair.rejected_id))
    ]


def _example(pair: TextPair, evidence: Evidence, text: str, annotation_id: str) -> Example:
    return Example(
        clip_id=pair.clip_id,
        text=text,
        prompt_texts=evidence.model_dump(),
        weight=pair.weight,
        group=HUMAN,
        annotation_id=annotation_id,
    )


def _trained(context: RoundContext, texts: CurrentTexts, clip_ids: Collection[str]) -> set[str]:
    """Those of these clips that the round trains on."""
    wanted = pl.Series(sorted(clip_ids), dtype=pl.String)
    return set(wanted.filter(pl.Series(context.split("train").has(wanted)))) - texts.gold


def _folded(text: str) -> str:
    return " ".join(text.split())


# What people's words make, by their kind. Each counts in ``left_out`` why one makes no pair.


def _of_corrections(context: RoundContext, texts: CurrentTexts, left_out: Counter[str]) -> Iterator[TextPair]:
    """People's text against the one that was shown. Of one that was written blind nobody judged the other."""
    for human, shown in texts.judged():
        if texts.split(shown.clip_id) != "train" or human.text is None or _folded(human.text) == _folded(shown.text):
            continue
        if human.is_blind:
            left_out[BLIND] += 1
            continue
        yield TextPair(
            clip_id=shown.clip_id,
            chosen=human.text,
            rejected=shown.text,
            chosen_id=shown.id,
            rejected_id=shown.id,
            source="correction",
            by=human.corrections,
            weight=human.agreement,
        )


def _of_choices(context: RoundContext, texts: CurrentTexts, left_out: Counter[str]) -> Iterator[TextPair]:
    """Blind choices between two texts: what most chose, weighed by how many of those who chose did."""
    workspace, left = context.workspace, excluded(context.workspace)
    standing = [
        p
        for p in standing_choices(workspace.preference_records())
        if p.refiner not in left and not p.first_id.startswith(GOLD) and not is_of_sounds(p.first_id)
    ]
    ids = {i for p in standing for i in (p.first_id, p.second_id)}
    said = dict(read_rows(workspace, "annotations", ids, ["id", "text"], pl.col("kind") == CAPTION).iter_rows())
    for _, of_pair in groupby(sorted(standing, key=lambda p: (p.pair_id, p.at, p.id)), key=lambda p: p.pair_id):
        choices = list(of_pair)
        if any(i not in said for i in (choices[0].first_id, choices[0].second_id)):
            left_out[GONE] += 1
        elif (pair := _preferred(choices, said)) is None:
            left_out[TIE] += 1
        else:
            yield pair


def _preferred(choices: Sequence[Preference], said: Mapping[str, str]) -> TextPair | None:
    """The pair that most choices on it make; None where none is preferred."""
    chosen = [p.first_id if p.chosen == "first" else p.second_id for p in choices if p.chosen in ("first", "second")]
    counts = Counter(chosen).most_common()
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    most, count = counts[0]
    other = next(i for i in (choices[0].first_id, choices[0].second_id) if i != most)
    return TextPair(
        clip_id=choices[0].clip_id,
        chosen=said[most],
        rejected=said[other],
        chosen_id=most,
        rejected_id=other,
        source="preference",
        by=tuple(p.id for p in choices),
        weight=count / len(choices),
    )


def _of_rejects(context: RoundContext, texts: CurrentTexts, left_out: Counter[str]) -> Iterator[TextPair]:
    """A text that is better than a rejected one: people's of that clip, else a model's newest that none rejected.

    What came with the video is not taken: it is no answer of a model, and nobody judged it.
    """
    rejected = [text for text in texts.rejected() if texts.split(text.annotation.clip_id) == "train"]
    refused = {text.annotation.id for text in rejected}
    better_ones = _newest(texts, [text.annotation.clip_id for text in rejected], refused)
    # The newest of a clip comes last, and stands.
    better_ones |= {shown.clip_id: (shown.id, human.text) for human, shown in texts.judged() if human.text is not None}
    for text in rejected:
        worse = text.annotation
        if worse.clip_id not in better_ones:
            left_out[ALONE] += 1
            continue
        better_id, better = better_ones[worse.clip_id]
        yield TextPair(
            clip_id=worse.clip_id,
            chosen=better,
            rejected=worse.text,
            chosen_id=better_id,
            rejected_id=worse.id,
            source="reject",
            by=text.corrections,
        )


def _newest(texts: CurrentTexts, clip_ids: Iterable[str], refused: Collection[str]) -> dict[str, tuple[str, str]]:
    """Clip id -> id and text of its newest caption by a model that people did not reject."""
    newest: dict[str, tuple[str, str]] = {}
    wanted = list(dict.fromkeys(clip_ids))
    for round in sorted((r for r in texts.rounds if r), reverse=True):
        for clip_id, caption in texts.of(round, [c for c in wanted if c not in newest]).items():
            if caption.id not in refused:
                newest[clip_id] = (caption.id, caption.text)
    return newest

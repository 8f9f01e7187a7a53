"""What refiners did: how far they agree where two judged one text, how much they changed, how long it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import scipy

from flywheel.core.types import Correction, Cue, Verdict, standing
from flywheel.metrics import token_f1
from flywheel.metrics.agreement import boundary_iou, edit_rate, krippendorff_alpha, text_distance
from flywheel.store import Workspace
from flywheel.store.gold import gold_givers
from flywheel.store.parts import read_rows
from human_refine.gold import GoldScore, ShownText, gold_scores, gold_texts
from human_refine.people import active_corrections

_LEAST_PAIRS = 5
_SHOWN = ["id", "round", "clip_id", "kind", "text", "payload"]


@dataclass(frozen=True, kw_only=True)
class PeerAgreement:
    """How far a person agrees with the others on shared texts, by word F1.

    ``others`` is how far they agree among themselves, ``p_value`` how likely so low a rank is by chance (Mann-Whitney,
    one-sided).
    """

    shared: int
    value: float
    others: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class RefinerEffort:
    """One person's corrections: how many by verdict, seconds, edit rate, gold and agreement with the others.

    ``given`` counts all but those that take something back. ``edit_rate`` is None where nothing was accepted or
    edited, ``gold`` where no gold was judged, ``peers`` where fewer than five pairs tell.
    """

    refiner: str
    given: int
    verdicts: Mapping[Verdict, int]
    seconds: float
    seconds_each: float
    last_at: str
    edit_rate: float | None
    gold: GoldScore | None
    peers: PeerAgreement | None

    def to_json(self) -> dict[str, Any]:
        """The row as records and the API have it."""
        peers = self.peers
        return {
            "refiner": self.refiner,
            "said": self.given,
            "seconds": self.seconds,
            "last": self.last_at,
            **{str(verdict): count for verdict, count in self.verdicts.items()},
            **(
                {}
                if peers is None
                else {
                    "shared": peers.shared,
                    "agreement": peers.value,
                    "agreement_of_others": peers.others,
                    "agreement_p": peers.p_value,
                }
            ),
            "gold": None if self.gold is None else asdict(self.gold),
            "seconds_each": self.seconds_each,
            "edit_rate": self.edit_rate,
        }


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What all refiners did, of one round's texts or of all.

    ``overlap`` of ``texts`` were settled by two or more people; ``alpha`` (Krippendorff, word distance) and
    ``boundary_iou`` (of cues) say how far these agree. What nothing tells is None.
    """

    texts: int
    overlap: int
    refiners: tuple[RefinerEffort, ...]
    gold_accuracy: float | None = None
    alpha: float | None = None
    boundary_iou: float | None = None
    seconds_each: float | None = None
    edit_rate: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures as records have them: what is None is left out."""
        figures = ("gold_accuracy", "alpha", "boundary_iou", "seconds_each", "edit_rate")
        present = {name: value for name in figures if (value := getattr(self, name)) is not None}
        rows = [row.to_json() for row in self.refiners]
        return {"texts": self.texts, "overlap": self.overlap, "refiners": rows, **present}


@dataclass(kw_only=True)
class _Tally:
    """What one person's corrections add up to."""

    given: int = 0
    seconds: float = 0.0
    last_at: str = ""
    verdicts: dict[Verdict, int] = field(default_factory=dict)
    edit_rates: list[float] = field(default_factory=list)

    def add(self, correction: Correction) -> None:
        self.verdicts[correction.verdict] = self.verdicts.get(correction.verdict, 0) + 1
        self.given += correction.verdict != "withdraw"
        self.seconds += correction.seconds
        self.last_at = max(self.last_at, correction.at.isoformat())


@dataclass(kw_only=True)
class _Sums:
    """What is gathered in one walk over the corrected texts."""

    tallies: dict[str, _Tally] = field(default_factory=dict)
    #: Word F1 of what each two people made of a text, with their names.
    pairs: list[tuple[str, str, float]] = field(default_factory=list)
    #: Annotation id -> the text that each person left; None is a reject.
    units: dict[str, list[str | None]] = field(default_factory=dict)
    boundary_ious: list[float] = field(default_factory=list)

    def add(self, annotation_id: str, shown: ShownText, corrections: Sequence[Correction], *, is_gold: bool) -> None:
        # Gold counts in its own score alone, and in the seconds.
        latest = {} if is_gold else standing(corrections)
        if not is_gold:
            self.pairs += _agreements(latest, shown.text)
            self.units[annotation_id] = [_text_left(c, shown.text) for c in latest.values()]
        cues = [_cues(c.payload or shown.payload) for c in latest.values() if c.verdict != "reject"]
        if shown.payload and len(cues) > 1:
            self.boundary_ious.append(_mean([boundary_iou(a, b) for i, a in enumerate(cues) for b in cues[i + 1 :]]))
        for correction in corrections:
            self.tallies.setdefault(correction.refiner, _Tally()).add(correction)
        for name, correction in latest.items():
            if correction.verdict in ("accept", "edit"):
                left = _text_left(correction, shown.text) or ""
                self.tallies[name].edit_rates.append(edit_rate(shown.text, left))


def effort(workspace: Workspace, round: int | None = None) -> Effort:
    """Sums up the corrections of one round's texts or of all; only texts that have corrections are read."""
    by_text: dict[str, list[Correction]] = {}
    for correction in active_corrections(workspace):
        by_text.setdefault(correction.annotation_id, []).append(correction)
    texts = _shown_texts(workspace, list(by_text), round)
    by_text = {i: corrections for i, corrections in by_text.items() if i in texts}
    gold = gold_texts(workspace)
    sums = _Sums()
    for annotation_id, corrections in by_text.items():
        shown = texts[annotation_id]
        sums.add(annotation_id, shown, corrections, is_gold=shown.clip_id in gold)
    scores = gold_scores(texts, by_text, gold, workspace.config.review.gold_right_f1, gold_givers(workspace))
    rows = [_refiner_effort(name, tally, scores.get(name), sums.pairs) for name, tally in sums.tallies.items()]
    return _effort(sums, scores, sorted(rows, key=lambda row: -row.given), by_text)


def _shown_texts(workspace: Workspace, ids: Sequence[str], round: int | None) -> dict[str, ShownText]:
    rows = read_rows(workspace, "annotations", ids, _SHOWN)
    return {
        row["id"]: ShownText(clip_id=row["clip_id"], kind=row["kind"], text=row["text"], payload=row["payload"])
        for row in rows.iter_rows(named=True)
        if round is None or row["round"] == round
    }


def _refiner_effort(
    name: str, tally: _Tally, gold: GoldScore | None, pairs: Sequence[tuple[str, str, float]]
) -> RefinerEffort:
    return RefinerEffort(
        refiner=name,
        given=tally.given,
        verdicts=tally.verdicts,
        seconds=tally.seconds,
        seconds_each=tally.seconds / max(1, tally.given),
        last_at=tally.last_at,
        edit_rate=_mean(tally.edit_rates) if tally.edit_rates else None,
        gold=gold,
        peers=_with_others(name, pairs),
    )


def _effort(
    sums: _Sums,
    scores: Mapping[str, GoldScore],
    rows: Sequence[RefinerEffort],
    by_text: Mapping[str, Sequence[Correction]],
) -> Effort:
    seen = sum(score.seen for score in scores.values())
    alpha = krippendorff_alpha(sums.units, text_distance)
    seconds = [c.seconds for corrections in by_text.values() for c in corrections if c.verdict != "withdraw"]
    # In the order in which people first spoke, as the tallies are: sums of floats depend on it.
    by_name = {row.refiner: row for row in rows}
    rates = [rate for name in sums.tallies if (rate := by_name[name].edit_rate) is not None]
    return Effort(
        texts=len(sums.units),
        overlap=sum(len(texts) > 1 for texts in sums.units.values()),
        refiners=tuple(rows),
        gold_accuracy=sum(score.right for score in scores.values()) / seen if seen else None,
        alpha=alpha if alpha == alpha else None,
        boundary_iou=_mean(sums.boundary_ious) if sums.boundary_ious else None,
        seconds_each=_mean(seconds) if seconds else None,
        edit_rate=_mean(rates) if seconds and rates else None,
    )


def _agreements(latest: Mapping[str, Correction], original: str) -> list[tuple[str, str, float]]:
    """Word F1 of what each two people made of a text; a reject agrees with a reject alone."""
    texts = [(name, _text_left(c, original)) for name, c in latest.items()]
    return [
        (a, b, float(x is y) if x is None or y is None else token_f1(x, y))
        for i, (a, x) in enumerate(texts)
        for b, y in texts[i + 1 :]
    ]


def _with_others(name: str, pairs: Sequence[tuple[str, str, float]]) -> PeerAgreement | None:
    """Agreement of a person with the others; None with fewer than five pairs of that person or of the others."""
    with_person = [v for a, b, v in pairs if name in (a, b)]
    without = [v for a, b, v in pairs if name not in (a, b)]
    if len(with_person) < _LEAST_PAIRS or len(without) < _LEAST_PAIRS:
        return None
    p_value = float(scipy.stats.mannwhitneyu(with_person, without, alternative="less").pvalue)
    return PeerAgreement(shared=len(with_person), value=_mean(with_person), others=_mean(without), p_value=p_value)


def _text_left(correction: Correction, original: str) -> str | None:
    return {"accept": original, "reject": None}.get(correction.verdict, correction.text)


def _cues(payload: str) -> list[Cue]:
    return [Cue(**cue) for cue in json.loads(payload)["cues"]] if payload else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

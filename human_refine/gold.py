"""Gold: clips whose right text a lead has given, shown among the others to see how well each refiner judges.

Gold stands apart from all else. Only train clips can become it. From then on no round learns from them, and no
agreement and no count includes what was said of them. A row of the table is an entry; the newest of a clip counts, an
empty text ends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import polars as pl
import scipy

from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, Correction, standing
from flywheel.metrics import mean_estimate, token_f1
from flywheel.store import View, Workspace
from flywheel.store import gold as table
from flywheel.store.parts import read_rows


@dataclass(frozen=True, kw_only=True)
class GoldScore:
    """How the gold items went that a person judged.

    ``accuracy`` is ``right`` of ``seen`` with its exact 95 % interval ``low`` to ``high`` (Clopper-Pearson). ``f1`` is
    the mean word F1 with gold of the texts left standing (None where all were rejected), ``f1_before`` of those shown.
    """

    seen: int
    right: int
    accuracy: float
    low: float
    high: float
    f1: float | None
    f1_before: float


@dataclass(frozen=True, kw_only=True)
class ShownText:
    """A text that people judged: the clip it is about, its kind, and what it says."""

    clip_id: str
    kind: str
    text: str
    payload: str = ""


def add_gold(workspace: Workspace, texts: Mapping[str, str], by: str) -> int:
    """Makes these clips (id -> right text) gold, or with an empty text no longer; returns how many entries were new.

    Raises UserError for a clip that is none of the train split: anchors and test clips measure the model, not people.
    """
    train = may_be_gold(workspace, texts)
    for clip_id in texts:
        if clip_id not in train:
            raise UserError(f"gold: {clip_id} is no train clip. Only these can be gold.")
    current = gold_texts(workspace)
    return table.add_gold(workspace, {c: text for c, text in texts.items() if current.get(c, "") != text}, by)


def may_be_gold(workspace: Workspace, clip_ids: Iterable[str]) -> frozenset[str]:
    """Those of these clips that can be gold."""
    clips = read_rows(workspace, "clips", clip_ids, ["id"], pl.col("split") == "train")
    return frozenset(clips["id"])


def gold_texts(workspace: View) -> dict[str, str]:
    """Clip id -> its right text; of a frozen workspace, those of its time."""
    if workspace.snapshot is not None:
        return dict(workspace.snapshot.gold)
    return table.gold_texts(workspace)


@dataclass(kw_only=True)
class _Tally:
    """What one refiner's judgements of gold add up to."""

    seen: int = 0
    right: int = 0
    f1s: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)

    def add(self, correction: Correction, before: float, right_text: str, right_f1: float) -> None:
        self.seen += 1
        self.before.append(before)
        if correction.verdict == "reject":
            self.right += before < right_f1
            return
        after = before if correction.verdict == "accept" else token_f1(correction.text, right_text)
        self.f1s.append(after)
        self.right += after >= right_f1

    def score(self) -> GoldScore:
        interval = scipy.stats.binomtest(self.right, self.seen).proportion_ci(method="exact")
        return GoldScore(
            seen=self.seen,
            right=self.right,
            accuracy=self.right / self.seen,
            low=float(interval.low),
            high=float(interval.high),
            f1=mean_estimate(self.f1s).value if self.f1s else None,
            f1_before=mean_estimate(self.before).value,
        )


def gold_scores(
    texts: Mapping[str, ShownText],
    corrections: Mapping[str, Sequence[Correction]],
    gold: Mapping[str, str],
    right_f1: float,
    givers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, GoldScore]:
    """Scores each refiner on the gold items that person judged.

    ``texts`` and ``corrections`` are by annotation id, ``gold`` by clip id. A text is right where its word F1 with gold
    is at least ``right_f1``; a reject is right where the text shown was not. Skips and can't-tells are not judged, and
    nobody is scored on a clip's gold who gave it (``givers``, by clip id).
    """
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for annotation_id, given in corrections.items():
        shown = texts.get(annotation_id)
        if shown is None or shown.kind != CAPTION or shown.clip_id not in gold:
            continue
        right_text = gold[shown.clip_id]
        before = token_f1(shown.text, right_text)
        for refiner, correction in standing(given).items():
            if refiner == givers.get(shown.clip_id):
                continue
            tallies[refiner].add(correction, before, right_text, right_f1)
    return {refiner: tally.score() for refiner, tally in tallies.items()}

"""The models that learned from each correction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from flywheel.store import Workspace


@dataclass(frozen=True, kw_only=True)
class CorrectionUse:
    """A correction, and the model that learned from it: ``round`` None where none did yet."""

    id: str
    clip_id: str
    annotation_id: str
    verdict: str
    refiner: str
    at: str
    round: int | None
    stage: str | None
    use: str | None
    weight: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        use = "not used yet"
        if self.round is not None:
            use = f"{self.use}, M{self.round} {self.stage}, weight {self.weight:g}"
        return f"{self.id} {self.verdict} by {self.refiner} of clip {self.clip_id}: {use}"


def uses_of(workspace: Workspace, round: int | None = None) -> list[CorrectionUse]:
    """Each correction, and each blind choice that was learned from, with every use of it in training.

    With a round only the uses by that round's model. The verdict of a choice is what was chosen.
    """
    columns = ("corrections", "round", "stage", "use", "weight")
    examples = workspace.records.read("examples", round=round, columns=columns)
    learned = examples.explode("corrections").drop_nulls("corrections").rename({"corrections": "id"})
    corrections = workspace.corrections().select("id", "clip_id", "annotation_id", "verdict", "refiner", "at")
    choices = workspace.preferences().join(learned, on="id", how="semi")
    chosen = choices.select(
        "id", "clip_id", pl.col("first_id").alias("annotation_id"), pl.col("chosen").alias("verdict"), "refiner", "at"
    )
    joined = pl.concat([corrections, chosen]).join(learned, on="id", how="left", maintain_order="left")
    rows = joined if round is None else joined.drop_nulls("round")
    return [CorrectionUse(**row) for row in rows.iter_rows(named=True)]

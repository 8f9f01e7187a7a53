"""What asking models about clips came to in a round: how many, what it cost, what it saved, how stable a judge is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flywheel.curation.agreement import OrderAgreement


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The models' part in a run of curation.

    ``asked`` clips of ``audible`` ones (those with sound) are to be described and judged, ``calibrating`` of them with
    another video's sound too, ``again`` of these in the other order and by other sampling. ``doubt``: lowest and
    highest P(match) by cheap evidence of what is asked about. ``to_ask`` of them were not asked yet, ``unscored`` were
    and have no scores. ``costs`` of the round's texts by kind and purpose; ``order`` and ``repeat`` compare a judge
    with itself.
    """

    audible: int
    asked: int
    calibrating: int = 0
    again: int = 0
    to_ask: int = 0
    unscored: int = 0
    doubt: tuple[float, float] = (0.0, 1.0)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hearing: Mapping[str, Any] | None = None
    order: OrderAgreement | None = None
    repeat: OrderAgreement | None = None

    def cost(self) -> dict[str, float]:
        """Calls, tokens read and written, the engines' seconds, and money by the models' prices, in this round."""
        costs = self.costs.values()
        return {
            "calls": sum(cost.get("generated", 0.0) for cost in costs),
            "tokens": sum(cost.get("tokens_in", 0.0) + cost.get("tokens_out", 0.0) for cost in costs),
            "seconds": sum(cost.get("engine_s", 0.0) for cost in costs),
            "money": sum(cost.get("money", 0.0) for cost in costs),
        }

    def calls_saved(self) -> float:
        """The share of a judge's calls that are saved against judging all clips that have sound."""
        controls = self.calibrating + 2 * self.again
        return 1 - (self.asked + controls) / max(1, self.audible + controls)

    def record(self) -> dict[str, Any]:
        """What goes on record, numbers that can't be told as None."""
        values: dict[str, Any] = {
            name: getattr(self, name) for name in ("audible", "asked", "calibrating", "again", "to_ask", "unscored")
        }
        values |= {"doubt": list(self.doubt), "calls_saved": self.calls_saved()}
        values["costs"] = {name: dict(cost) for name, cost in self.costs.items()}
        values["hearing"] = dict(self.hearing) if self.hearing else None
        for name, found in (("order", self.order), ("repeat", self.repeat)):
            values[name] = _told(asdict(found)) if found is not None and found.n else None
        return values


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Plain numbers of a record of :class:`Judged`, those that can't be told left out."""
    values = {name: float(record[name]) for name in ("asked", "unscored", "calls_saved") if name in record}
    for name in ("order", "repeat"):
        if found := record.get(name):
            told = {f"{name}_jaccard": found["jaccard"], f"{name}_spearman": found["spearman"]["mean"]}
            values |= {key: float(value) for key, value in told.items() if value is not None}
    return values


def _told(value: Any) -> Any:
    """The value with None in place of nan, at any depth."""
    if isinstance(value, Mapping):
        return {name: _told(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value

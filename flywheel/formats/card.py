"""The card of a dataset: ``README.md`` for people, ``dataset.json`` for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from flywheel.core.foreign import escaped

_LIMITS = (
    "Texts that no person confirmed are a model's: they can be wrong, and wrong in the same way many times. "
    "People saw a part of the clips, chosen half at random",
    "and half where the model doubted, so the human texts are not a random sample of the corpus. "
    "Figures above are measured on clips that are not in the train split.",
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts of a dataset.

    ``form`` is the format's name, ``hours`` the clips' length, ``counts`` are texts by source, ``left_out`` clips by
    reason. ``model`` names weights, adapter and prompts by their hashes. ``rounds`` are the rows of a table.
    """

    name: str
    form: str
    round: int
    champion_since: str
    num_clips: int
    hours: float
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    model: Mapping[str, str]
    rounds: tuple[Mapping[str, Any], ...]
    licence: str
    num_refiners: int

    def text(self, loading: str) -> str:
        """The card in Markdown; ``loading`` says how the dataset is loaded."""
        lines = [
            *self._front(),
            f"# {' '.join(escaped(self.name).split())}",
            "",
            self._summary(),
            "",
            f"Load: `{loading}`",
            "",
            *self._sources(),
            "## Model and prompt",
            "",
            *(f"- {name}: `{value}`" for name, value in self.model.items()),
            "",
            *self._table(),
            *self._licence(),
            "## Limits",
            "",
            *_LIMITS,
            "",
        ]
        return "\n".join(lines)

    def _front(self) -> list[str]:
        """The front matter that dataset hubs read."""
        return [
            "---",
            # A licence is free text.
            yaml.safe_dump({"license": self.licence or "other"}, allow_unicode=True, width=math.inf).strip(),
            "task_categories:",
            "- video-text-to-text",
            "tags:",
            "- video",
            "- captions",
            "- data-flywheel",
            "---",
        ]

    def _summary(self) -> str:
        since = f", champion since {self.champion_since}." if self.champion_since else "."
        return (
            f"{self.num_clips} clips, {self.hours:.2f} hours, each with one text. Written by a data flywheel; "
            f"the texts are those of round {self.round}{since}"
        )

    def _sources(self) -> list[str]:
        share = self.counts.get("human", 0) / self.num_clips if self.num_clips else 0.0
        reasons = ", ".join(f"{count} clips {reason}" for reason, count in sorted(self.left_out.items()))
        return [
            "## Where the texts come from",
            "",
            *(f"- {source}: {count}" for source, count in sorted(self.counts.items())),
            f"- share given or confirmed by people: {share:.1%}, by {self.num_refiners} refiners",
            "",
            *([f"Left out: {reasons}.", ""] if reasons else []),
        ]

    def _table(self) -> list[str]:
        if not self.rounds:
            return []
        heads = list(self.rounds[0])
        rows = ["| " + " | ".join(str(row[head]) for head in heads) + " |" for row in self.rounds]
        return ["## Rounds", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *rows, ""]

    def _licence(self) -> list[str]:
        if self.licence:
            videos = f"As the workspace says (corpus.licence): {self.licence}."
        else:
            videos = "Not recorded (corpus.licence is empty): the videos' own licences hold."
        return ["## Licence", "", videos, "The texts of models may fall under the models' licences.", ""]


def write_card(card: Card, out: Path, *, loading: str) -> None:
    """Write the card's two files into the folder ``out``."""
    (out / "README.md").write_text(card.text(loading), encoding="utf-8")
    facts = json.dumps(asdict(card), indent=1, sort_keys=True, default=str)
    (out / "dataset.json").write_text(facts + "\n", encoding="utf-8")

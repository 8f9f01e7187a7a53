"""What an engine is: requests in, results out, one for one and in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from flywheel.models.inputs import Picture


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen. ``temperature`` 0 is greedy; ``seed`` counts only above it."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def canonical(self) -> str:
        """A stable text for keys: what can't matter is left out, so a changed seed makes no greedy text anew."""
        values = asdict(self)
        if self.temperature == 0:
            values = {"max_new_tokens": self.max_new_tokens, "temperature": 0.0}
        return json.dumps(values, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One text to write: a clip's picture and the prompt's text after it."""

    key: str
    picture: Picture
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One text written. ``logprobs`` are the model's own at temperature 1, one per token of ``token_ids``.

    ``finish`` is ``stop`` where the model ended its text, ``length`` where it was cut off. ``seconds`` is the batch's wall time
    divided by its rows.
    """

    key: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    tokens_in: int
    finish: str
    seconds: float


class Engine(Protocol):
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Result]:
        """Write one text per request. Raises BorderError where the engine itself fails."""
        ...

"""An engine without a model, to test what surrounds one: text is a function of the request, time is as given."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from annotators.interface import Request, Result, Sampling


class _Engine:
    def __init__(self, seconds_per_batch: float) -> None:
        self._seconds = seconds_per_batch
        self.calls: list[str] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Result]:
        time.sleep(self._seconds)
        results = []
        for request in requests:
            self.calls.append(request.key)
            word = hashlib.sha256((request.key + request.prompt + sampling.canonical()).encode()).hexdigest()[:8]
            text = f"A clip that shows {word}."
            results.append(
                Result(
                    key=request.key,
                    text=text,
                    token_ids=tuple(range(5)),
                    logprobs=(-0.5,) * 5,
                    tokens_in=len(request.prompt.split()),
                    finish="stop",
                    seconds=self._seconds / len(requests),
                )
            )
        return results


def fake(seconds_per_batch: float = 0.0, **_: Any) -> _Engine:
    """Writes ``A clip that shows <hash>.`` after ``seconds_per_batch`` (seconds)."""
    return _Engine(seconds_per_batch)

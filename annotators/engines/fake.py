"""An engine without a model, to test what surrounds one: text is a function of the request, time is as given."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from annotators.engines._batches import batches
from annotators.interface import Request, Result, Sampling
from flywheel.models.inputs import SOUND_RATE_HZ


class _Engine:
    def __init__(self, seconds_per_batch: float, batch_size: int, obeys: bool) -> None:
        self._seconds, self._batch_size, self._obeys = seconds_per_batch, batch_size, obeys
        self.calls: list[str] = []

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        for batch in batches(requests, self._batch_size):
            time.sleep(self._seconds)
            for request in batch:
                self.calls.append(request.key)
                sound = request.clip.sound if request.clip is not None else None
                asked = (request.key + request.prompt + sampling.canonical()).encode()
                word = hashlib.sha256(asked + (b"" if sound is None else sound.tobytes())).hexdigest()[:8]
                yield Result(
                    key=request.key,
                    text=self._text(word, sampling.schema),
                    token_ids=tuple(range(5)),
                    logprobs=(-0.5,) * 5,
                    tokens_in=len(request.prompt.split()) + (0 if sound is None else 1 + len(sound) // SOUND_RATE_HZ),
                    finish="stop",
                    seconds=self._seconds / len(batch),
                )

    def _text(self, word: str, schema: str) -> str:
        if not (self._obeys and schema):
            return f"A clip that shows {word}."
        return json.dumps(_fitting(json.loads(schema), word, itertools.count()))

    def parts(self) -> list[_Engine]:
        return [self]

    def close(self) -> None:
        pass


def _fitting(schema: dict[str, Any], word: str, numbers: Iterator[int]) -> Any:
    """A value of this JSON schema: numbers that count up, whole ones and texts by the word, no text like another."""
    if "properties" in schema:
        return {name: _fitting(part, _word(word, name), numbers) for name, part in schema["properties"].items()}
    kind = schema.get("type")
    if kind == "array":
        return [_fitting(schema["items"], word, numbers)]
    if kind == "integer":
        low, high = int(schema.get("minimum", 0)), int(schema.get("maximum", 10))
        return low + int(word, 16) % (high - low + 1)
    return next(numbers) if kind == "number" else f"word {word}"


def _word(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]


def fake(seconds_per_batch: float = 0.0, batch_size: int = 64, obeys: bool = False, **_: Any) -> _Engine:
    """Writes ``A clip that shows <hash>.`` after ``seconds_per_batch`` (seconds); JSON of a schema if it ``obeys``."""
    return _Engine(seconds_per_batch, batch_size, obeys)


#: It runs no model: nothing is loaded, and no adapter has to be proven.
fake.needs_model = False  # type: ignore[attr-defined]

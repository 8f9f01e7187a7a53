"""What an engine is: a stream of requests in, a stream of results out, each request answered once."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Protocol

from flywheel.core.secrets import without_secrets
from flywheel.models.inputs import ClipInput


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen. ``temperature`` 0 is greedy; ``seed`` counts only above it; ``schema`` is a JSON schema
    (text, empty for none) that the reply is held to."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    schema: str = ""

    def canonical(self) -> str:
        """A stable text for keys: what can't matter is left out, so a changed seed makes no greedy text anew."""
        return _canonical(self)


@lru_cache(maxsize=64)
def _canonical(sampling: Sampling) -> str:
    values = asdict(sampling)
    del values["schema"]
    if sampling.temperature == 0:
        values = {"max_new_tokens": sampling.max_new_tokens, "temperature": 0.0}
    if sampling.schema:
        values["schema"] = hashlib.sha256(sampling.schema.encode()).hexdigest()[:16]
    return json.dumps(values, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One text to write: the clip that is shown or heard, and the prompt's text after it.

    ``clip`` is None for a question about text alone.
    """

    key: str
    clip: ClipInput | None
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One text written. ``logprobs`` are the model's own at temperature 1, one per token of ``token_ids``;
    under a schema, among the tokens that it allows.

    ``finish`` is ``stop`` where the model ended its text, ``length`` where it was cut off, ``error`` where this request
    can't be answered (``text`` then says why; others go on). ``seconds`` is the request's share of the engine's time.
    """

    key: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    tokens_in: int
    finish: str
    seconds: float


class Engine(Protocol):
    """Asks for no more requests than it can work on soon: what lies between decoder and engine stays small."""

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        """One result per request, in any order, as they are done. Raises BorderError where the engine itself fails."""
        ...

    def parts(self) -> Sequence[Engine]:
        """What writes on its own, each of which is to be proven:
        the engine itself, or the servers of a pool one by one."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; after this it answers nothing. May be called twice."""
        ...


def failed(request: Request, why: str) -> Result:
    """The result of a request that can't be answered."""
    return Result(
        key=request.key, text=without_secrets(why), token_ids=(), logprobs=(), tokens_in=0, finish="error", seconds=0.0
    )


def storable(result: Result) -> Result:
    """The result as records take it: halves of a character that came apart joined, those that came alone U+FFFD.

    Raises TypeError, ValueError or OverflowError for tokens, log-probs and counts that are no such numbers.
    """
    array("i", result.token_ids)
    array("d", result.logprobs)
    array("q", (result.tokens_in,))
    if result.text.isascii():
        return result
    text = result.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return result if text == result.text else replace(result, text=text)


def seed_of(sampling: Sampling, key: str) -> int:
    """A seed of its own for each request (32 bits): what is written does not depend on what it is batched with."""
    return int.from_bytes(hashlib.sha256(f"{sampling.seed}:{key}".encode()).digest()[:4])


def media_limits(inputs: Collection[str]) -> dict[str, int]:
    """vLLM's limits of media in a request, for these inputs (``frames``, ``sound``)."""
    limits = {"video": int("frames" in inputs), "image": 0}
    return {**limits, "audio": 1} if "sound" in inputs else limits

"""Proof that the adapter which is to write did write: before a row is kept, what the engine says of canary prompts is
compared with what transformers and PEFT say, with and without the adapter.

How far right programs are from each other is measured, not assumed: the engine against itself, transformers against
itself, and what other rounding changes. All values are mean absolute differences of log-probs in nats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from annotators.canaries import (
    NUM_CANARIES,
    NUM_TOKENS,
    SEEN,
    Canary,
    batch_noise,
    effect_of,
    mean_difference,
    rounding_noise,
)
from annotators.interface import Engine, Result, Sampling
from flywheel.core.errors import ProofFailed

#: An engine that is further from the adapter than so many times the noise does not apply it.
_NEAR = 3.0
#: A token that is likelier than the next best by so many times the noise is no matter of chance.
_FIRM = 25.0
#: Share of canaries that may go another way at such a token.
_MOST_ASTRAY = 0.25
#: Fewer compared tokens prove nothing.
_LEAST_TOKENS = 8
#: So many times nearer is plainly nearer: to the adapter, and an engine is asked more before it is refuted; to the
#: base, and it is the base that writes.
_NEARER = 3.0


class Verdict(StrEnum):
    """The answer of a proof.

    ``PROVEN``: the engine writes what the adapter writes. ``REFUTED``: it writes something else. ``UNSEEN``: the
    adapter changes nothing that could be told from noise.
    """

    PROVEN = "proven"
    REFUTED = "refuted"
    UNSEEN = "unseen"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The verdict on an adapter, and the figures (nats) that it rests on.

    ``to_adapter`` and ``to_base``: engine to transformers with the adapter and without, over ``tokens`` (None where the
    engine was not asked). ``adapter_to_base``: the adapter's effect on all tokens of the canaries. ``noise``: the
    largest of ``engine_noise``, ``batch_noise`` and ``rounding_noise``. ``tolerance``: the most that ``to_adapter`` may
    be. ``astray``: canaries of which the engine plainly writes another text. ``wrote``: adapter, merged or base.
    """

    verdict: Verdict
    wrote: str = "adapter"
    canaries: int
    tokens: int
    to_adapter: float | None
    to_base: float | None
    adapter_to_base: float
    tolerance: float
    noise: float
    engine_noise: float
    batch_noise: float
    rounding_noise: float
    astray: int = 0

    def __str__(self) -> str:
        if self.verdict is Verdict.UNSEEN:
            effect = f"{self.adapter_to_base:.2g} nats on {self.canaries} canaries, noise {self.noise:.1e}"
            return f"the adapter changes nothing that could be seen ({effect})"
        found = "log-probs not comparable"
        if self.to_adapter is not None and self.to_base is not None:
            found = f"log-probs {self.to_adapter:.2g} nats from the adapter's and {self.to_base:.2g} from the base's"
        if self.verdict is Verdict.PROVEN:
            return f"adapter check passed ({self.tokens} tokens): {found} (noise {self.noise:.1e})"
        return (
            f"the engine does not write what the adapter writes: {self.astray} of {self.canaries} canaries are other "
            f"texts, {found} on {self.tokens} tokens alike (at most {self.tolerance:.2g}). No text was kept. "
            "If the engine computes coarser than transformers (quantised weights or cache), set models.main.tolerance."
        )


def unseen(chosen: Sequence[Canary], tolerance: float | None = None) -> Proof | None:
    """The proof's end where transformers itself sees nothing of the adapter; None where an engine is to be asked."""
    first = chosen[:NUM_CANARIES]
    found = judged([(canary, None) for canary in first], 0.0, tolerance)
    return found if found.verdict is Verdict.UNSEEN and found.adapter_to_base <= SEEN * found.noise else None


def prove(engine: Engine, chosen: Sequence[Canary], tolerance: float | None = None) -> Proof:
    """Let the engine write the canaries, and compare; more of them until there is a verdict.

    ``tolerance`` (nats) stands for the measured noise: it is the most that an engine may be from the adapter. Raises
    ProofFailed where the engine answers none of the canaries.
    """
    told: list[tuple[Canary, Result]] = []
    same: list[tuple[float, float]] = []
    problem = ""
    for some in _lots(chosen):
        first = _asked(engine, some)
        # The same once more among other requests: what an engine says may hang on what it is batched with.
        second = _asked(engine, some[::-2])
        for canary in some:
            result = first[canary.request.key]
            if result.finish == "error":
                problem = f"{canary.request.key}: {result.text}"
                continue
            told.append((canary, result))
            if canary.request.key in second:
                same += _alike(result, second[canary.request.key])
        if told:
            found = judged(told, mean_difference([a for a, _ in same], [b for _, b in same]), tolerance)
            if found.verdict is Verdict.PROVEN or (found.verdict is Verdict.REFUTED and not _doubtful(found)):
                return found
    if not told:
        raise ProofFailed(f"the engine answers none of {len(chosen)} canaries ({problem}). No text was kept.")
    return found


def _lots(chosen: Sequence[Canary]) -> Iterator[Sequence[Canary]]:
    for start in range(0, len(chosen), NUM_CANARIES):
        yield chosen[start : start + NUM_CANARIES]


def _asked(engine: Engine, some: Sequence[Canary]) -> dict[str, Result]:
    return {r.key: r for r in engine.generate([c.request for c in some], Sampling(max_new_tokens=NUM_TOKENS))}


def _alike(a: Result, b: Result) -> list[tuple[float, float]]:
    """Log-probs of both up to their first different token."""
    count = _shared(a.token_ids, b.token_ids)
    return list(zip(a.logprobs[:count], b.logprobs[:count], strict=True))


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _doubtful(found: Proof) -> bool:
    """Whether a refuted engine is near enough to the adapter that more canaries may say otherwise."""
    return found.to_adapter is not None and found.to_base is not None and found.to_adapter * _NEARER < found.to_base


def judged(told: Sequence[tuple[Canary, Result | None]], engine_noise: float, tolerance: float | None) -> Proof:
    """The proof by these canaries and what an engine said of each (None: it was not asked)."""
    chosen = [canary for canary, _ in told]
    batch, rounding = batch_noise(chosen), rounding_noise(chosen)
    noise = max(engine_noise, batch, rounding) if tolerance is None else tolerance / _NEAR
    rows: list[tuple[float, float, float]] = []
    astray = 0
    for canary, result in told:
        if result is None:
            continue
        count = _shared(canary.token_ids, result.token_ids)
        rows += zip(result.logprobs[:count], canary.adapted[:count], canary.base[:count], strict=True)
        astray += count < len(canary.token_ids) and canary.margins[count] > _FIRM * noise
    own, adapted, base = ([row[i] for row in rows] for i in range(3))
    to_adapter, to_base = mean_difference(own, adapted), mean_difference(own, base)
    effect, whole_effect = mean_difference(adapted, base), effect_of(chosen)
    # Where the texts part before the adapter has changed much, what is alike of them says little, but says it too.
    is_base = whole_effect > SEEN * noise and to_adapter > noise and to_base * _NEARER < to_adapter
    # Written so that what is no number is refuted.
    near = to_adapter <= _NEAR * noise and astray <= _MOST_ASTRAY * len(told) and not is_base
    proven = effect > SEEN * noise and len(rows) >= _LEAST_TOKENS
    return Proof(
        verdict=Verdict.REFUTED if not near else Verdict.PROVEN if proven else Verdict.UNSEEN,
        canaries=len(told),
        tokens=len(rows),
        to_adapter=to_adapter if rows else None,
        to_base=to_base if rows else None,
        adapter_to_base=whole_effect,
        tolerance=_NEAR * noise,
        noise=noise,
        engine_noise=engine_noise,
        batch_noise=batch,
        rounding_noise=rounding,
        astray=astray,
    )

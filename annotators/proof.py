"""Proof that the adapter which is to write did write: before a row is kept, what the engine says of canary prompts is
compared with what transformers and PEFT say, with and without the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from annotators.interface import Engine, Request, Sampling
from flywheel.core.errors import ProofFailed
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm

#: Clips and tokens of each that are compared.
NUM_CANARIES, _TOKENS = 4, 24
#: Mean absolute difference of log-probs (nats) that two engines may have.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}
#: The engine must be so many times nearer to the adapter than to the base.
_NEARER = 3.0
#: Share of the reference's tokens that the engine must write alike; what follows another token can't be compared.
_LEAST_COMPARED = 0.5


@dataclass(frozen=True, kw_only=True)
class Canary:
    """What transformers writes for a request with the adapter,
    and the log-probs (nats) of these tokens with it and without."""

    request: Request
    token_ids: tuple[int, ...]
    adapted: tuple[float, ...]
    base: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Mean absolute differences of log-probs (nats): engine to adapter, engine to base, adapter to base;
    over ``tokens``."""

    canaries: int
    tokens: int
    to_adapter: float
    to_base: float
    adapter_to_base: float
    tolerance: float


def canaries(vlm: Vlm, builder: InputBuilder, requests: Sequence[Request], engine: Engine) -> list[Canary]:
    """``vlm`` is the model with the adapter on it (PEFT), ``engine`` transformers' on the same."""
    out = []
    by_key = {r.key: r for r in requests}
    for result in engine.generate(requests, Sampling(max_new_tokens=_TOKENS)):
        request = by_key[result.key]
        if result.finish == "error":
            raise ProofFailed(f"{request.key}: {result.text}")
        with vlm.model.disable_adapter():
            base = _logprobs(vlm, builder, request, result.token_ids)
        # Scored, as the base is: then the two differ by the adapter and by nothing else.
        out.append(
            Canary(
                request=request,
                token_ids=result.token_ids,
                adapted=_logprobs(vlm, builder, request, result.token_ids),
                base=base,
            )
        )
    return out


def prove(engine: Engine, known: Sequence[Canary], tolerance: float) -> Proof:
    """Let the engine write the canaries, and compare. Raises ProofFailed where its text is not the adapter's."""
    said = {r.key: r for r in engine.generate([c.request for c in known], Sampling(max_new_tokens=_TOKENS))}
    rows: list[tuple[float, float, float]] = []
    for canary in known:
        result = said[canary.request.key]
        for token, own, other, adapted, base in zip(
            canary.token_ids, result.token_ids, result.logprobs, canary.adapted, canary.base, strict=False
        ):
            if token != own:
                break
            rows.append((other, adapted, base))
    expected = sum(len(c.token_ids) for c in known)
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    adapter_to_base = _mean_difference([a for c in known for a in c.adapted], [b for c in known for b in c.base])
    if adapter_to_base <= _NEARER * tolerance:
        raise ProofFailed(
            f"the adapter changes the canaries' log-probs by {adapter_to_base:.2g} nats only: "
            f"whether it or the base writes can't be told (needed: more than {_NEARER * tolerance:.2g})."
        )
    to_adapter = float((values[:, 0] - values[:, 1]).abs().mean()) if len(rows) else float("inf")
    to_base = float((values[:, 0] - values[:, 2]).abs().mean()) if len(rows) else 0.0
    if len(rows) < _LEAST_COMPARED * expected or to_adapter > tolerance or to_adapter * _NEARER > to_base:
        raise ProofFailed(
            f"the engine does not write what the adapter writes: {len(rows)} of {expected} canary tokens alike, "
            f"log-probs {to_adapter:.2g} nats from the adapter's and {to_base:.2g} from the base's "
            f"(tolerance {tolerance:.2g}). No text was kept."
        )
    return Proof(
        canaries=len(known),
        tokens=len(rows),
        to_adapter=to_adapter,
        to_base=to_base,
        adapter_to_base=adapter_to_base,
        tolerance=tolerance,
    )


def _mean_difference(a: Sequence[float], b: Sequence[float]) -> float:
    return float((torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)).abs().mean())


def _logprobs(vlm: Vlm, builder: InputBuilder, request: Request, token_ids: Sequence[int]) -> tuple[float, ...]:
    """Log-probs (nats) of given tokens after a request's prompt."""
    batch = builder.build([request.clip], [request.prompt])
    tokens = torch.tensor([list(token_ids)])
    for name, fill in (
        ("input_ids", tokens),
        ("attention_mask", torch.ones_like(tokens)),
        ("mm_token_type_ids", torch.zeros_like(tokens)),
    ):
        if name in batch:
            batch[name] = torch.cat([batch[name], fill.to(batch[name].dtype)], dim=1)
    with torch.inference_mode():
        logits = vlm.model(**{name: value.to(vlm.device) for name, value in batch.items()}).logits[
            0, -len(token_ids) - 1 : -1
        ]
    picked = logits.float().log_softmax(-1).gather(1, tokens[0, :, None].to(logits.device))[:, 0]
    return tuple(picked.tolist())

"""The questions that an adapter is proven on: chosen where it changes most, with what transformers and PEFT say."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from annotators.interface import Engine, Request, Sampling
from flywheel.core.errors import ProofFailed
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm
from flywheel.models.rounding import rounded_otherwise

#: Canaries that an engine is asked at a time, and tokens of each.
NUM_CANARIES, NUM_TOKENS = 4, 24
#: Candidates that are looked at, one lot after the other, until the adapter's effect is plain.
_CANDIDATES = (8, 16, 40)
#: The best of them are kept: an engine may be asked more than once.
_MOST_KEPT = 16
#: An adapter is seen where it changes log-probs by so many times the noise; plainly so where by twice as many.
SEEN = 4.0


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A request, transformers' text for it with the adapter, and log-probs of its tokens (nats).

    ``adapted`` with the adapter, ``base`` without; ``margins`` by how much each is likelier than the next best. The
    same as ``adapted`` made otherwise: ``generated`` while the text was written (in a batch, from a cache), and
    ``rounded`` with other rounding.
    """

    request: Request
    token_ids: tuple[int, ...]
    adapted: tuple[float, ...]
    base: tuple[float, ...]
    margins: tuple[float, ...]
    generated: tuple[float, ...]
    rounded: tuple[float, ...]

    @property
    def effect(self) -> float:
        """Mean change of log-probs by the adapter, nats."""
        return mean_difference(self.adapted, self.base)


def canaries(vlm: Vlm, builder: InputBuilder, requests: Iterable[Request], engine: Engine) -> list[Canary]:
    """The canaries among these requests, those first that the adapter changes most; empty where there are no requests.

    Takes no more requests than it needs. ``vlm`` is the model with the adapter on it (PEFT), ``engine`` transformers'
    on the same. Raises ProofFailed where the model answers none of them or its log-probs are no numbers.
    """
    stream, kept, problem = iter(requests), list[Canary](), ""
    for count in _CANDIDATES:
        some = {r.key: r for r in islice(stream, count)}
        for result in engine.generate(list(some.values()), Sampling(max_new_tokens=NUM_TOKENS)):
            if result.finish == "error":
                problem = f"{result.key}: {result.text}"
            else:
                kept.append(_scored(vlm, builder, some[result.key], result.token_ids, result.logprobs))
        kept = sorted(kept, key=lambda c: -c.effect)[:_MOST_KEPT]
        if not some or effect_of(kept[:NUM_CANARIES]) > 2 * SEEN * reference_noise(kept[:NUM_CANARIES]):
            break
    if problem and not kept:
        raise ProofFailed(f"no canary could be asked ({problem}).")
    return kept


def effect_of(chosen: Sequence[Canary]) -> float:
    """Mean change of the canaries' log-probs by the adapter, nats; 0 without canaries."""
    return mean_difference([a for c in chosen for a in c.adapted], [b for c in chosen for b in c.base])


def reference_noise(chosen: Sequence[Canary]) -> float:
    """How far transformers is from itself on these canaries, nats: the larger of batch and cache, and of rounding."""
    return max(batch_noise(chosen), rounding_noise(chosen))


def batch_noise(chosen: Sequence[Canary]) -> float:
    """Mean difference of log-probs that are scored one by one and noted while a batch was written, nats."""
    return mean_difference([a for c in chosen for a in c.adapted], [g for c in chosen for g in c.generated])


def rounding_noise(chosen: Sequence[Canary]) -> float:
    """Mean change of log-probs by other rounding, nats."""
    return mean_difference([a for c in chosen for a in c.adapted], [r for c in chosen for r in c.rounded])


def mean_difference(a: Sequence[float], b: Sequence[float]) -> float:
    """Mean absolute difference; 0 of nothing."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a) if a else 0.0


def _scored(
    vlm: Vlm, builder: InputBuilder, request: Request, token_ids: tuple[int, ...], generated: tuple[float, ...]
) -> Canary:
    adapted, margins = score(vlm, builder, request, token_ids)
    # Scored, as the base is: then the two differ by the adapter and by nothing else.
    with vlm.model.disable_adapter():
        base, _ = score(vlm, builder, request, token_ids)
    with rounded_otherwise(vlm.model):
        rounded, _ = score(vlm, builder, request, token_ids)
    if not all(map(math.isfinite, (*adapted, *base))):
        raise ProofFailed(f"{request.key}: the model's log-probs are no numbers. Did its training diverge?")
    return Canary(
        request=request,
        token_ids=token_ids,
        adapted=adapted,
        base=base,
        margins=margins,
        generated=generated,
        rounded=rounded,
    )


def score(
    vlm: Vlm, builder: InputBuilder, request: Request, token_ids: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log-probs (nats) of given tokens after a request's prompt, and how much likelier each is than the next best."""
    batch = builder.build([request.clip], [request.prompt])
    tokens = torch.tensor([list(token_ids)])
    for name, fill in (
        ("input_ids", tokens),
        ("attention_mask", torch.ones_like(tokens)),
        ("mm_token_type_ids", torch.zeros_like(tokens)),
    ):
        if name in batch:
            batch[name] = torch.cat([batch[name], fill.to(batch[name].dtype)], dim=1)
    inputs = {name: value.to(vlm.device) for name, value in batch.items()}
    if "logits_to_keep" in inspect.signature(vlm.model.get_base_model().forward).parameters:
        # The prompt's logits, megabytes a token, are not asked for.
        inputs["logits_to_keep"] = len(token_ids) + 1
    with torch.inference_mode():
        logits = vlm.model(**inputs).logits[0, -len(token_ids) - 1 : -1]
    every = logits.float().log_softmax(-1)
    chosen = tokens[0, :, None].to(logits.device)
    picked = every.gather(1, chosen)[:, 0]
    others = every.scatter(1, chosen, -torch.inf).amax(-1)
    return tuple(picked.tolist()), tuple((picked - others).tolist())

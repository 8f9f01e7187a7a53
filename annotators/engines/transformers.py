"""Batched generation with transformers: any ``AutoModelForImageTextToText`` that takes video."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from annotators.interface import Request, Result, Sampling
from flywheel.core.errors import BorderError
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm


class _Choice(LogitsProcessor):  # type: ignore[misc]
    """Notes each chosen token's own log-probability before the distribution is changed for sampling.

    Keeps one step's logits at a time; asking generate for all of them would hold (steps, B, V).
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._last: torch.Tensor | None = None
        self.logprobs: list[torch.Tensor] = []

    def note(self, token_B: torch.Tensor) -> None:
        if self._last is not None:
            self.logprobs.append(self._last.gather(1, token_B[:, None])[:, 0].cpu())
            self._last = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.note(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        if self._sampling.temperature == 0:
            return scores
        warm = scores / self._sampling.temperature
        if self._sampling.top_p < 1:
            ordered, order = warm.softmax(-1).sort(-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= self._sampling.top_p
            warm = warm.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
        return warm


class _Engine:
    def __init__(self, vlm: Vlm, builder: InputBuilder) -> None:
        self._vlm, self._builder = vlm, builder

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Result]:
        started = time.perf_counter()
        batch = self._builder.build([r.picture for r in requests], [r.prompt for r in requests])
        tokens_in = batch["attention_mask"].sum(1).tolist()
        choice = _Choice(sampling)
        torch.manual_seed(sampling.seed)
        tokenizer = self._builder.tokenizer
        try:
            with torch.inference_mode():
                out = self._vlm.model.generate(
                    **{name: value.to(self._vlm.device) for name, value in batch.items()},
                    max_new_tokens=sampling.max_new_tokens,
                    do_sample=sampling.temperature > 0,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    logits_processor=[choice],
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
        except (RuntimeError, ValueError) as error:
            raise BorderError(f"transformers: generation failed ({error}).") from error
        written = out[:, batch["input_ids"].shape[1] :]
        choice.note(written[:, -1])
        logprobs = torch.stack(choice.logprobs, dim=1)
        seconds = (time.perf_counter() - started) / len(requests)
        return [
            self._result(request, ids, row, int(count), seconds)
            for request, ids, row, count in zip(requests, written.tolist(), logprobs.tolist(), tokens_in, strict=True)
        ]

    def _result(self, request: Request, ids: list[int], logprobs: list[float], tokens_in: int, seconds: float) -> Result:
        tokenizer = self._builder.tokenizer
        stopped = tokenizer.eos_token_id in ids
        count = ids.index(tokenizer.eos_token_id) + 1 if stopped else len(ids)
        return Result(
            key=request.key,
            text=tokenizer.decode(ids[:count], skip_special_tokens=True),
            token_ids=tuple(ids[:count]),
            logprobs=tuple(logprobs[:count]),
            tokens_in=tokens_in,
            finish="stop" if stopped else "length",
            seconds=seconds,
        )


def transformers(vlm: Vlm, builder: InputBuilder, **_: Any) -> _Engine:
    """Batched ``generate`` on the loaded model; log-probs of the chosen tokens at temperature 1."""
    return _Engine(vlm, builder)

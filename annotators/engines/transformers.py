"""Batched generation with transformers: any ``AutoModelForImageTextToText`` that takes video."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from annotators.engines._batches import batches
from annotators.engines._guide import Guide, compiled
from annotators.interface import Request, Result, Sampling, failed, seed_of
from flywheel.core.border import is_of_one_item, reason_of
from flywheel.core.progress import say
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm


class _Choice(LogitsProcessor):  # type: ignore[misc]
    """Chooses tokens itself, and notes each one's own log-probability before the distribution is changed for sampling.

    Sampling is the argmax of log-probabilities plus Gumbel noise (Gumbel 1954; exact), each row with a generator of its
    own: what is written for a request does not depend on what it is batched with. Keeps one step's logits at a time;
    asking generate for all of them would hold (steps, B, V).
    """

    def __init__(
        self, sampling: Sampling, keys: Sequence[str], device: torch.device, guide: Guide | None = None
    ) -> None:
        self._sampling, self._guide = sampling, guide
        self._generators = [torch.Generator(device).manual_seed(seed_of(sampling, key)) for key in keys]
        self._last: torch.Tensor | None = None
        self.logprobs: list[torch.Tensor] = []

    def note(self, token_B: torch.Tensor) -> None:
        if self._last is not None:
            self.logprobs.append(self._last.gather(1, token_B[:, None])[:, 0].cpu())
            self._last = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._guide is not None:
            if self._last is not None:
                self._guide.accept(input_ids[:, -1])
            scores = self._guide.mask(scores)
        self.note(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        if self._sampling.temperature == 0:
            return scores
        warm = scores.float() / self._sampling.temperature
        if self._sampling.top_p < 1:
            ordered, order = warm.softmax(-1).sort(-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= self._sampling.top_p
            warm = warm.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
        exponential = torch.stack(
            [
                torch.empty_like(row).exponential_(generator=generator)
                for row, generator in zip(warm, self._generators, strict=True)
            ]
        )
        return warm - exponential.clamp(min=1e-30).log()


class _Engine:
    def __init__(self, vlm: Vlm, builder: InputBuilder, batch_size: int) -> None:
        self._vlm, self._builder, self._batch_size = vlm, builder, batch_size

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        for batch in batches(requests, self._batch_size):
            yield from self._whole_or_halves(batch, sampling)

    def parts(self) -> list[_Engine]:
        return [self]

    def close(self) -> None:
        # The model is its loader's to keep or to drop.
        pass

    def _whole_or_halves(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Result]:
        """A batch that is too large, or holds a row that can't be done, is halved until only that row fails."""
        done: list[Result] | None
        try:
            done = self._batch(requests, sampling)
        except BaseException as error:
            # No memory on the GPU is a RuntimeError.
            if not is_of_one_item(error):
                raise
            done, kind, reason = None, type(error).__name__, reason_of(error)
        # Here the error is gone, and with it the frames that held the batch's tensors: the halves have its memory.
        if done is not None:
            yield from done
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(requests) == 1:
            yield failed(requests[0], f"the model can't read it ({reason})")
            return
        say(f"annotate: a batch of {len(requests)} failed ({kind}); it is tried in halves.")
        middle = len(requests) // 2
        yield from self._whole_or_halves(requests[:middle], sampling)
        yield from self._whole_or_halves(requests[middle:], sampling)

    def _batch(self, requests: Sequence[Request], sampling: Sampling) -> list[Result]:
        started = time.perf_counter()
        batch = self._builder.build([r.clip for r in requests], [r.prompt for r in requests])
        tokens_in = batch["attention_mask"].sum(1).tolist()
        tokenizer, guide = self._builder.tokenizer, None
        if sampling.schema:
            vocabulary = self._vlm.model.get_output_embeddings().weight.shape[0]
            if (grammar := compiled(sampling.schema, tokenizer, vocabulary)) is not None:
                guide = Guide(grammar, len(requests), vocabulary)
        choice = _Choice(sampling, [r.key for r in requests], self._vlm.device, guide)
        with torch.inference_mode():
            out = self._vlm.model.generate(
                **{name: value.to(self._vlm.device) for name, value in batch.items()},
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=[choice],
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        written = out[:, batch["input_ids"].shape[1] :]
        choice.note(written[:, -1])
        logprobs = torch.stack(choice.logprobs, dim=1)
        seconds = (time.perf_counter() - started) / len(requests)
        return [
            self._result(request, ids, row, int(count), seconds)
            for request, ids, row, count in zip(requests, written.tolist(), logprobs.tolist(), tokens_in, strict=True)
        ]

    def _result(
        self, request: Request, ids: list[int], logprobs: list[float], tokens_in: int, seconds: float
    ) -> Result:
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


def transformers(vlm: Vlm, builder: InputBuilder, batch_size: int = 64, **_: Any) -> _Engine:
    """``generate`` on the loaded model, ``batch_size`` clips at a time;
    log-probs of the chosen tokens at temperature 1."""
    return _Engine(vlm, builder, batch_size)

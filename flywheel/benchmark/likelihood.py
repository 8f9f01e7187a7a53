"""How likely a model finds each option as its reply."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from annotators.interface import Request
from annotators.writer import AskedModel
from flywheel.models.loader import Loader
from flywheel.models.score import mean_logprobs


@dataclass(frozen=True, kw_only=True)
class OptionLogprobs:
    """The mean log-prob (nats a token, end mark included) of each reply, and the seconds that it took."""

    logprobs: tuple[float, ...]
    seconds: float


def option_logprobs(model: AskedModel, loader: Loader, request: Request, replies: Sequence[str]) -> OptionLogprobs:
    """The log-probs of these replies to a request, under the model in its own process."""
    began = time.perf_counter()
    vlm = loader.load(model.folder, model.adapter, precision=model.settings.precision, inputs=model.inputs)
    builder = loader.builder(vlm.processor, model.role)
    count = len(replies)
    found = mean_logprobs(vlm, builder, [request.clip] * count, [request.prompt] * count, list(replies))
    return OptionLogprobs(logprobs=tuple(found.tolist()), seconds=time.perf_counter() - began)

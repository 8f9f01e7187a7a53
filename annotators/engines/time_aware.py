"""A time-aware model of ours (:mod:`flywheel.models.time_aware`) as a role: it answers one request after the other."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from annotators.interface import Request, Result, Sampling, failed
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.models.inputs import ClipInput
from flywheel.models.time_aware import Encoders, Perceived, TimeAware
from flywheel.models.time_aware.files import load_model

#: Clips whose encoders' tokens are kept: a benchmark asks several questions about each.
_KEPT = 16


class _Engine:
    def __init__(self, encoders: Encoders, model: TimeAware) -> None:
        self._encoders, self._model = encoders, model
        self._kept: OrderedDict[tuple[str, int, int], Perceived] = OrderedDict()

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        if sampling.schema or sampling.temperature:
            raise UserError("engine time_aware writes the likeliest words alone: no schema, temperature 0.")
        for request in requests:
            began = time.perf_counter()
            try:
                with one_item("the model can't read it"):
                    ids, logprobs = self._model.write(
                        self._perceived(request.clip), request.prompt, sampling.max_new_tokens
                    )
            except MediaError as error:
                yield failed(request, str(error))
                continue
            yield Result(
                key=request.key,
                text=self._model.tokenizer.decode(ids, skip_special_tokens=True),
                token_ids=tuple(ids),
                logprobs=tuple(logprobs),
                tokens_in=self._model.num_tokens(request.prompt),
                finish="stop" if ids and ids[-1] == self._model.tokenizer.eos_token_id else "length",
                seconds=time.perf_counter() - began,
            )

    def _perceived(self, clip: ClipInput | None) -> Perceived:
        if clip is None:
            clip = ClipInput(key="", duration_s=0.0, fps=1.0)
        # Another sound of the same clip is another clip.
        name = (clip.key, 0 if clip.frames_THWC is None else hash(clip.frames_THWC.tobytes()), _hash(clip))
        if name not in self._kept:
            self._kept[name] = self._encoders(clip)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def parts(self) -> list[_Engine]:
        return [self]

    def close(self) -> None:
        self._kept.clear()


def _hash(clip: ClipInput) -> int:
    return 0 if clip.sound is None else hash(clip.sound.tobytes())


def time_aware(model: Path, adapter: Path | None = None, **_: Any) -> _Engine:
    """The model of a folder that :func:`flywheel.models.time_aware.files.save_model` wrote, on the CPU.

    Raises UserError where the folder holds none, and for an adapter, which its own LoRA leaves no room for.
    """
    if adapter is not None:
        raise UserError(f"engine time_aware takes no adapter ({adapter}): its own LoRA is part of the model.")
    return _Engine(*load_model(model))

"""vLLM in this process: continuous batching, prefix caching, LoRA per request."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from annotators.causes import advice, root_cause
from annotators.engines._overheard import Overheard
from annotators.interface import Request, Result, Sampling, failed, media_limits, seed_of
from flywheel.core.border import is_of_one_item
from flywheel.core.errors import BorderError, UserError, first_line
from flywheel.models.inputs import SOUND_RATE_HZ, ClipInput, InputBuilder
from flywheel.models.load import folder_digest

#: Requests that wait in the engine for each that it works on: enough that a finished one is replaced at once.
_WAITING = 0.5


class _Engine:
    def __init__(
        self,
        model: Path,
        adapter: Path | None,
        builder: InputBuilder,
        name: str,
        options: dict[str, Any],
        inputs: Collection[str],
    ) -> None:
        try:
            from vllm import LLM
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise UserError(
                f"engine 'vllm': vLLM can't be imported ({error}). Install it, or set models.main.engine."
            ) from error
        self._builder = builder
        self._free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        settings: dict[str, Any] = {
            **({"limit_mm_per_prompt": media_limits(inputs)} if inputs else {}),
            "max_num_seqs": 64,
            # Blanks between the parts of a reply are fixed: where they are free, small models write them without end.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            **options,
        }
        self._lora = None
        if adapter is not None:
            digest = folder_digest(adapter)
            # vLLM keeps the old weights where an id comes again with another path: the id is the content's.
            self._lora = LoRARequest(f"{name}-{digest}", int(digest[:7], 16) + 1, str(adapter))
            rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
            # Two slots: vLLM's CPU build gives base requests the last adapter's weights where no slot is to spare.
            settings |= {"enable_lora": True, "max_loras": 2, "max_lora_rank": max(8, 1 << (rank - 1).bit_length())}
        self._most = int(settings["max_num_seqs"] * (1 + _WAITING))
        self._heard = Overheard()
        try:
            with self._heard:
                self._llm: Any = LLM(str(model), **settings)
        except Exception as error:
            cause = self._cause(error)
            self._heard.close()
            raise BorderError(f"vLLM: {model} can't be served ({cause}).{advice(cause)}") from error

    def _cause(self, error: BaseException) -> str:
        """Return the first cause in one line: the engine is another process, and the error may point to its log."""
        own_words = first_line(error)
        return (root_cause(self._heard.text()) or own_words) if "root cause" in str(error) else own_words

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        engine = self._llm.llm_engine
        stream, at_work, ended = iter(requests), dict[str, tuple[Request, float]](), False
        try:
            while at_work or not ended:
                while not ended and len(at_work) < self._most:
                    request = next(stream, None)
                    if request is None:
                        ended = True
                    elif (problem := self._add(engine, request, sampling)) is not None:
                        yield failed(request, problem)
                    else:
                        at_work[request.key] = (request, time.perf_counter())
                if at_work:
                    for output in self._step(engine):
                        if output.finished:
                            request, began = at_work.pop(output.request_id)
                            yield self._result(request, output, (time.perf_counter() - began) / (1 + len(at_work)))
        finally:
            if at_work:
                engine.abort_request(list(at_work))

    def _add(self, engine: Any, request: Request, sampling: Sampling) -> str | None:
        from vllm import SamplingParams

        parameters = SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed_of(sampling, request.key) if sampling.temperature > 0 else None,
            logprobs=0,
            skip_special_tokens=True,
        )
        if sampling.schema:
            from vllm.sampling_params import StructuredOutputsParams

            parameters.structured_outputs = StructuredOutputsParams(json=sampling.schema)
        try:
            prompt = _prompt(self._builder, request)
            engine.add_request(request.key, prompt, parameters, lora_request=self._lora)
        except BaseException as error:
            # Its processors raise many kinds; only a dead engine, and what is ours, concern more than this request.
            if not is_of_one_item(error):
                raise
            if "EngineDead" in type(error).__name__:
                raise self._stopped(error) from error
            if sampling.schema and self._add(engine, request, replace(sampling, schema="")) is None:
                # Without the schema it is taken: then it is the schema, and every request would fail alike.
                engine.abort_request([request.key])
                raise UserError(
                    f"vLLM can't compile the prompt's json_schema ({first_line(error)}). Write it more simply."
                ) from error
            return f"vLLM does not take it ({first_line(error)})"
        return None

    def _step(self, engine: Any) -> list[Any]:
        try:
            return list(engine.step())
        except Exception as error:
            raise self._stopped(error) from error

    def _stopped(self, error: BaseException) -> BorderError:
        cause = self._cause(error)
        return BorderError(
            f"vLLM: the engine stopped ({cause}).{advice(cause)} Run the same command: what is committed stands."
        )

    def _result(self, request: Request, output: Any, seconds: float) -> Result:
        written = output.outputs[0]
        return Result(
            key=request.key,
            text=written.text,
            token_ids=tuple(written.token_ids),
            logprobs=tuple(
                entry[token].logprob for entry, token in zip(written.logprobs or (), written.token_ids, strict=True)
            ),
            tokens_in=len(output.prompt_token_ids),
            finish="stop" if written.finish_reason == "stop" else "length",
            seconds=seconds,
        )

    def parts(self) -> list[_Engine]:
        return [self]

    def close(self) -> None:
        """Raises BorderError where the GPU's memory is not free again:
        a trainer that starts now would run out of it."""
        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        self._heard.close()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            held = self._free - torch.cuda.mem_get_info()[0]
            if held > 0.05 * torch.cuda.mem_get_info()[1]:
                raise BorderError(
                    f"vLLM: {held / 2**30:.1f} GiB of GPU memory are still held. "
                    "Run the same command: it goes on from here."
                )


def _prompt(builder: InputBuilder, request: Request) -> dict[str, Any]:
    """A request's conversation and media as vLLM takes them."""
    media = _media(request.clip)
    chat = builder.chat_for(request.clip, request.prompt)
    return {"prompt": chat, **({"multi_modal_data": media} if media else {})}


def _media(clip: ClipInput | None) -> dict[str, Any]:
    """A request's media as vLLM takes them; empty for a question about text alone."""
    media: dict[str, Any] = {}
    if clip is not None and clip.frames_THWC is not None:
        metadata = {**clip.metadata(), "video_backend": "opencv", "do_sample_frames": False}
        media["video"] = (clip.frames_THWC, metadata)
    if clip is not None and clip.sound is not None:
        media["audio"] = (clip.sound, SOUND_RATE_HZ)
    return media


def vllm(
    model: Path,
    adapter: Path | None,
    builder: InputBuilder,
    name: str = "adapter",
    options: dict[str, Any] | None = None,
    inputs: Collection[str] = ("frames",),
    **_: Any,
) -> _Engine:
    """An engine on the folder ``model``, with the adapter of folder ``adapter`` on every request.

    ``options`` are vLLM's engine arguments, ``inputs`` the media that requests bring. Log-probs of the chosen tokens
    are the model's own at temperature 1. Raises UserError where vLLM is not installed or an option is for its servers,
    BorderError where it can't serve the model.
    """
    if int((options or {}).get("data_parallel_size", 1)) > 1:
        raise UserError(
            "models.main.options: data_parallel_size is for vLLM's servers, not for the engine in this process. Set "
            "tensor_parallel_size, or start `vllm serve --data-parallel-size N` and name it in models.main.servers "
            "with engine openai."
        )
    return _Engine(model, adapter, builder, name, dict(options or {}), inputs)

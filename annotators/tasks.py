"""A pass's tasks, its settings, and its counts and costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from annotators.interface import Sampling
from flywheel.core.config import Annotate
from flywheel.models.inputs import ClipInput
from flywheel.models.prompt import Prompt

#: Temperature of what is tried again.
RETRY_TEMPERATURE = 0.7


@dataclass(frozen=True, kw_only=True)
class Task:
    """One clip to be asked about.

    ``key_parts`` are what decides on the answer beside clip, prompt, model and sampling (such as which frames are
    shown). ``prompt`` is the text after the media, ``media`` gives these when they are needed (None: text alone) and
    raises MediaError where it can't. ``uri`` names the file in rejects, ``duration_s`` bounds the times of a reply.
    """

    clip_id: str
    uri: str = ""
    duration_s: float = float("inf")
    key_parts: tuple[object, ...] = ()
    prompt: str
    media: Callable[[], ClipInput] | None = None
    #: What it is asked about, where a clip has several such texts in a round: part of the text's id.
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a pass asks. ``keep_unhealthy`` keeps broken text too, for what is measured: leaving it out would flatter."""

    sampling: Sampling
    batch_size: int = 64
    decoders: int = 2
    num_candidates: int = 1
    select: str = "logprob"
    max_tries: int = 2
    script: str = ""
    commit_rows: int = 1024
    keep_unhealthy: bool = False

    @classmethod
    def of(cls, settings: Annotate, prompt: Prompt, *, retry: int = 0, keep_unhealthy: bool = False) -> Asking:
        """As the configuration says; the ``retry``-th time that rejected clips are tried it samples otherwise."""
        sampling = Sampling(
            max_new_tokens=prompt.max_new_tokens or settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=settings.seed,
            schema=prompt.schema_text,
        )
        if retry:
            warm = max(RETRY_TEMPERATURE, sampling.temperature)
            sampling = replace(sampling, temperature=warm, seed=sampling.seed + 1000 * retry)
        return cls(
            sampling=sampling,
            batch_size=settings.batch_size,
            decoders=settings.decoders,
            num_candidates=settings.num_candidates,
            select=settings.select,
            max_tries=settings.max_tries,
            script=settings.script,
            commit_rows=settings.commit_rows,
            keep_unhealthy=keep_unhealthy,
        )


@dataclass(frozen=True, kw_only=True)
class AskResult:
    """The counts and costs of one pass.

    ``written``: annotations written now; ``generated`` and ``reused``: generations made now and found from before;
    ``rejected``: clips; ``unhealthy``: texts by kind of fault (each try counts); ``cut``: texts that are kept without a
    part of the reply, by what was cut. Tokens and seconds are the engine's;
    ``busy_share`` is the share of the pass in which the engine waited neither for inputs nor for the store; ``money``
    is by the model's prices. ``proof`` is the adapter's (:class:`annotators.proof.Proof`), where it has one;
    ``hearing`` that of a model which is given sound (:class:`annotators.hearing.HearingProof`).
    """

    written: int = 0
    generated: int = 0
    reused: int = 0
    rejected: int = 0
    unhealthy: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    engine_s: float = 0.0
    decode_s: float = 0.0
    decodes: int = 0
    cache_hits: int = 0
    busy_share: float = 1.0
    money: float = 0.0
    proof: dict[str, Any] | None = None
    hearing: dict[str, Any] | None = None

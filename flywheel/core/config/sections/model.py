"""A model by its role: what it is, and what asks it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flywheel.core.config.sections._section import Section


class Model(Section):
    folder: str = Field(
        "bundled", description="folder of the model, its id on a hub (org/name), or `bundled`: the demo model"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="`auto`: bf16 where an accelerator has it")
    engine: str = Field(
        "transformers",
        description="what runs it: transformers, vllm, openai (servers), fake, or another package's engine",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the engine, such as vLLM's max_model_len or limit_mm_per_prompt ({video: 1})",
    )
    servers: tuple[str, ...] = Field((), description="URLs of OpenAI-compatible servers, for engine openai")
    api_key_env: str = Field(
        "",
        description="environment variable that holds the servers' API key; empty is OPENAI_API_KEY, where that is set",
    )
    concurrency: int = Field(16, ge=1, description="requests at a time per server")
    timeout_s: float = Field(
        120.0, gt=0, description="seconds after which a server that does not answer counts as failed"
    )
    patience_s: float = Field(60.0, gt=0, description="seconds without any server that is well before the run stops")
    serve: Literal["adapter", "merged"] = Field(
        "adapter", description="serve the adapter beside its model, or the merged weights that finetune.merge writes"
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        description=(
            "the most (nats) that an engine's log-probs may be from the adapter's; measured if left out. "
            "For engines that compute coarser than the model's type"
        ),
    )
    price_per_hour: float = Field(0.0, ge=0, description="money per hour of engine or training, for cost and budget")
    price_per_million_in: float = Field(0.0, ge=0, description="money per million tokens read")
    price_per_million_out: float = Field(0.0, ge=0, description="money per million tokens written")

"""Engines' results as records keep them, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from annotators.interface import Result, storable
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.types import Generation


def kept_or_failed(result: Result) -> Result:
    """The result as records take it, or its failure."""
    try:
        with one_item("the reply can't be kept"):
            return storable(result)
    except MediaError as error:
        return replace(result, text=str(error), token_ids=(), logprobs=(), tokens_in=0, finish="error", seconds=0.0)


def result_of(generation: Generation) -> Result:
    """The engine's result that a generation keeps."""
    return Result(
        key=generation.id,
        text=generation.text,
        token_ids=generation.token_ids,
        logprobs=generation.logprobs,
        tokens_in=generation.tokens_in,
        finish=generation.finish,
        seconds=generation.seconds,
    )


def generation_of(row: dict[str, Any]) -> Generation:
    """The generation of a row of records."""
    return Generation(**{**row, "token_ids": tuple(row["token_ids"]), "logprobs": tuple(row["logprobs"])})

"""Holding transformers' generation to a JSON schema, by xgrammar (which comes with vLLM) where it is installed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from flywheel.core.errors import UserError, first_line
from flywheel.core.progress import say


class Guide:
    """One matcher for each row of a batch; :meth:`mask` leaves the tokens that the schema allows next."""

    def __init__(self, compiled: Any, rows: int, vocabulary: int) -> None:
        import xgrammar

        self._matchers = [xgrammar.GrammarMatcher(compiled) for _ in range(rows)]
        self._mask = xgrammar.allocate_token_bitmask(rows, vocabulary)

    def accept(self, token_B: torch.Tensor) -> None:
        for matcher, token in zip(self._matchers, token_B.tolist(), strict=True):
            if not matcher.is_terminated():
                matcher.accept_token(token)

    def mask(self, scores_BV: torch.Tensor) -> torch.Tensor:
        import xgrammar

        self._mask.fill_(-1)
        for row, matcher in enumerate(self._matchers):
            if not matcher.is_terminated():
                matcher.fill_next_token_bitmask(self._mask, row)
        masked = scores_BV.float().cpu()
        xgrammar.apply_token_bitmask_inplace(masked, self._mask)
        return masked.to(scores_BV.device)


@lru_cache(maxsize=8)
def compiled(schema: str, tokenizer: Any, vocabulary: int) -> Any | None:
    """The schema as a grammar over the tokenizer's tokens; None where xgrammar is not installed: replies are then only
    checked. Raises UserError where it can't be compiled."""
    try:
        import xgrammar
    except ImportError:
        say(
            "annotate: xgrammar is not installed, so the model is not held to the prompt's schema; "
            "replies that break it are rejected."
        )
        return None
    try:
        # Blanks between the parts of a reply are fixed: where they are free, small models write them without end.
        known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
        return xgrammar.GrammarCompiler(known, max_threads=1).compile_json_schema(
            schema, any_whitespace=False, separators=(",", ":")
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"the prompt's json_schema can't be compiled ({first_line(error)}). Write it more simply."
        ) from error

"""The model: perceived tokens and times through the resampler, then a frozen language model with a LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from flywheel.models.inputs import IGNORED, InputBuilder, InputRow
from flywheel.models.load import Vlm
from flywheel.models.time_aware._lora import LoraLinear, add_lora
from flywheel.models.time_aware._perceived import Perceived
from flywheel.models.time_aware._resampler import Resampler
from flywheel.models.time_aware._times import spans_of


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of what is learned; none of them is published, these are the smallest that learned here.

    ``states`` learned queries, ``spans`` of time at most in a query; later ones stay words. Without ``times`` no span
    gets a token, and a query's times are words alone: the control.
    """

    seen_width: int
    heard_width: int
    width: int = 128
    states: int = 8
    spans: int = 4
    heads: int = 4
    rank: int = 16
    alpha: float = 32.0
    times: bool = True


class TimeAware(nn.Module):
    """Answers queries about what was perceived. Only the resampler, the bridge to the language model and LoRA learn."""

    def __init__(self, language: Vlm, sizes: Sizes) -> None:
        """``language`` is frozen in place, and gets the LoRA."""
        super().__init__()
        self.sizes = sizes
        self.builder = InputBuilder(language.processor)
        self.tokenizer = self.builder.tokenizer
        # The states stand behind the query's words: a frozen model pays least attention to what is far from its reply.
        # The figure of the paper has them before; in trials of 100 steps or fewer a LoRA did not learn to look there.
        self._behind = _common_end(self._row("When?").ids, self._row("Who is it").ids)
        self.words = language.model.get_input_embeddings()
        self.language = language.model.model.language_model
        self.head = language.model.get_output_embeddings()
        language.model.requires_grad_(False)
        add_lora(self.language, sizes.rank, sizes.alpha)
        self.resampler = Resampler(
            seen_width=sizes.seen_width,
            heard_width=sizes.heard_width,
            width=sizes.width,
            states=sizes.states,
            spans=sizes.spans,
            heads=sizes.heads,
        )
        self.bridge = nn.Linear(sizes.width, self.words.weight.shape[1])
        # As large as words are, so that neither drowns the other.
        nn.init.normal_(self.bridge.weight, std=float(self.words.weight.std()) / sizes.width**0.5)

    def learned(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    # One way into the language model for learning, scoring and writing.

    def states(self, perceived: Sequence[Perceived], queries: Sequence[str]) -> Tensor:
        """``(B, N + M, D)``, as the language model gets them."""
        spans = [spans_of(query)[: self.sizes.spans] if self.sizes.times else [] for query in queries]
        return self.states_at(perceived, spans)

    def states_at(self, perceived: Sequence[Perceived], spans: Sequence[Sequence[tuple[float, float]]]) -> Tensor:
        """:meth:`states` for these spans of time (seconds), whatever a query says."""
        seen, seen_spans, has_seen = _padded([p.seen_VD for p in perceived], [p.seen_span_V2 for p in perceived])
        heard, heard_spans, has_heard = _padded([p.heard_AD for p in perceived], [p.heard_span_A2 for p in perceived])
        span_BM2 = torch.zeros(len(perceived), self.sizes.spans, 2)
        named_BM = torch.zeros(len(perceived), self.sizes.spans, dtype=torch.bool)
        for row, of_query in enumerate(spans):
            for place, span in enumerate(of_query):
                span_BM2[row, place], named_BM[row, place] = torch.tensor(span), True
        present = torch.cat([has_seen, has_heard], dim=1)
        made: Tensor = self.bridge(self.resampler(seen, seen_spans, heard, heard_spans, present, span_BM2, named_BM))
        return made

    def loss(self, perceived: Sequence[Perceived], queries: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Mean cross-entropy (nats) of the answers' tokens, end mark included."""
        logprobs, mask = self._logprobs(self.states(perceived, queries), queries, answers)
        return -(logprobs * mask).sum() / mask.sum()

    @torch.no_grad()
    def mean_logprobs(self, states_BSD: Tensor, queries: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Mean log-probability (nats) of each answer's tokens ``(B,)``, its end mark included."""
        logprobs, mask = self._logprobs(states_BSD, queries, answers)
        return (logprobs * mask).sum(1) / mask.sum(1)

    def _logprobs(self, states_BSD: Tensor, queries: Sequence[str], answers: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [self._row(query, answer) for query, answer in zip(queries, answers, strict=True)]
        batch = self.builder.batch(rows)
        places = [row.num_prompt - self._behind for row in rows]
        hidden = self._hidden(states_BSD, batch["input_ids"], batch["attention_mask"], places)
        labels = batch["labels"][:, 1:]
        mask = labels != IGNORED
        # Of other places no scores over the vocabulary are made.
        scored = self.head(hidden[:, states_BSD.shape[1] : -1][mask]).log_softmax(-1)
        picked = torch.zeros(labels.shape).masked_scatter(mask, scored.gather(-1, labels[mask][:, None])[:, 0])
        return picked, mask

    def _row(self, query: str, answer: str | None = None) -> InputRow:
        ids = self.builder.row(None, query).ids
        target = [] if answer is None else self.tokenizer.encode(self.builder.plain(answer), add_special_tokens=False)
        end = [] if answer is None else [self.tokenizer.eos_token_id]
        return InputRow(ids=[*ids, *target, *end], num_prompt=len(ids), tensors={})

    def num_tokens(self, query: str) -> int:
        """Tokens that a query is to the language model, states included."""
        return len(self._row(query).ids) + self.sizes.states + self.sizes.spans

    def _hidden(self, states_BSD: Tensor, ids_BL: Tensor, mask_BL: Tensor, places: Sequence[int]) -> Tensor:
        rows = zip(self.words(ids_BL), states_BSD, places, strict=True)
        inputs = torch.stack([torch.cat([words[:place], states, words[place:]]) for words, states, place in rows])
        mask = torch.cat([torch.ones(states_BSD.shape[:2], dtype=mask_BL.dtype), mask_BL], dim=1)
        hidden: Tensor = self.language(inputs_embeds=inputs, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden

    @torch.no_grad()
    def write(self, perceived: Perceived, query: str, most: int) -> tuple[list[int], list[float]]:
        """The likeliest tokens one by one, the end mark among them, with their log-probabilities."""
        states, prompt = self.states([perceived], [query]), self._row(query).ids
        ids: list[int] = []
        logprobs: list[float] = []
        while len(ids) < most and (not ids or ids[-1] != self.tokenizer.eos_token_id):
            tokens = torch.tensor([[*prompt, *ids]])
            hidden = self._hidden(states, tokens, torch.ones_like(tokens), [len(prompt) - self._behind])
            best = self.head(hidden[0, -1]).log_softmax(-1).max(-1)
            ids.append(int(best.indices))
            logprobs.append(float(best.values))
        return ids, logprobs


def _padded(tokens: Sequence[Tensor], spans: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens and spans of B clips as ``(B, X, D)`` and ``(B, X, 2)``, and which of them there are ``(B, X)``."""
    pad: Any = nn.utils.rnn.pad_sequence
    present = pad([torch.ones(len(of), dtype=torch.bool) for of in tokens], batch_first=True)
    return pad(list(tokens), batch_first=True), pad(list(spans), batch_first=True), present


def _common_end(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of last tokens that two rows share."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def is_learned(name: str) -> bool:
    """Whether a parameter of this name is kept in the model's own file."""
    return name.startswith(("resampler.", "bridge.")) or name.endswith((".down", ".up"))


__all__ = ["LoraLinear", "Sizes", "TimeAware", "is_learned"]

r"""Wrong captions, and wrong words within right ones: a two-level mixture measured against people's texts.

Ours; derivation, guarantees and limits in ``docs/theory.md``, sections 4 to 6. Symbols: q the model, w the target, m a
text-only bigram model of the group's texts, n the group's noise words, $\epsilon$ the share of noise words in right
texts, $\rho$ the share of wrong texts. Suffixes: N tokens, S texts, G groups, V vocabulary, R slots of rows.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise_control.interface import (
    IGNORED,
    LOG_FLOOR,
    AllReduce,
    TokenContext,
    TokenStatistics,
    WeightPlan,
    check_shares,
    widened,
)
from noise_control.rules._base import AdaptiveRule, doubtful
from noise_control.rules._look import GroupLook, Measured
from noise_control.rules._plan import MixturePlan, TextTrust
from noise_control.rules._scores import LEAST_RATE
from noise_control.rules._state import Sides, State
from noise_control.rules._text_model import Words

#: Noise words are put on people's texts at the rate last measured, at first at this one.
_FIRST_RATE = 0.3
#: Tokens whose whole vocabulary is looked at together.
_CHUNK = 256


class Mixture(AdaptiveRule):
    """Trust in a word times trust in its text, both from what looks at people's texts showed."""

    wants_sequences = True

    def __init__(self, sides: Sides, decay: float, warmup_steps: int, buckets: int) -> None:
        self._sides, self._decay, self._warmup_steps, self._buckets = sides, decay, warmup_steps, buckets
        self._num_groups = 1
        self._vocabulary = 0
        self._steps = 0
        # Made at the first call, which shows vocabulary and device.
        self._state: State | None = None

    def prepare(self, *, num_groups: int) -> None:
        self._num_groups = max(self._num_groups, num_groups)

    def _allocated(self, vocabulary: int, device: torch.device) -> State:
        """The state, made where there is none yet. Raises ValueError for another vocabulary than before."""
        if self._state is None:
            self._vocabulary = vocabulary
            self._state = State.empty(self._num_groups, vocabulary, self._buckets, self._decay, device)
        if vocabulary != self._vocabulary:
            raise ValueError(f"mixture: the vocabulary was {self._vocabulary}, now it is {vocabulary}")
        if self._state.device != device:
            self._state = self._state.moved(device)
        return self._state

    # -- weights -----------------------------------------------------------------------------------------------------

    def weight(
        self, statistics: TokenStatistics, target_N: Int[Tensor, " N"], context: TokenContext | None
    ) -> Float[Tensor, " N"] | None:
        state = self._allocated(statistics.vocabulary, target_N.device)
        words, live = Words.of(context, target_N, self._vocabulary), doubtful(context, target_N)
        if not len(words.word):
            return None
        log_q = -statistics.nll_N[live].double()
        visits_S = self._visits(words, live, context)
        state.text_model.count(words)
        if self._steps == 0:
            return None
        trust = self._observed(log_q, words, visits_S)
        if not bool((self.noise_rates() > 0).any()):
            return None
        weight_N = torch.ones_like(statistics.nll_N)
        weight_N[live] = trust.to(weight_N.dtype)
        return weight_N

    def planned(self, target_N: Int[Tensor, " N"], vocabulary: int, context: TokenContext | None) -> WeightPlan | None:
        state = self._allocated(vocabulary, target_N.device)
        words, live = Words.of(context, target_N, vocabulary), doubtful(context, target_N)
        if not len(words.word):
            return None
        visits_S = self._visits(words, live, context)

        def count(log_q: Float[Tensor, " live"]) -> None:
            state.text_model.count(words)
            if self._steps:
                self._observed(log_q, words, visits_S)

        if self._steps == 0 or not bool((self.noise_rates() > 0).any()):
            return MixturePlan(words, live, count)
        by_words = self._log_odds(words, state.measured.word_rate)
        if not self._sides.texts:
            return MixturePlan(words, live, count, by_words)
        by_text = state.text_model.log_probability(words, visits_S[words.text])
        trust = TextTrust.of(state.measured, words, 1 - self._too_often(words))
        return MixturePlan(words, live, count, by_words, by_text, trust)

    def _visits(self, words: Words, live: Bool[Tensor, " N"], context: TokenContext | None) -> Float[Tensor, " S"]:
        has_rows = context is not None and context.row_N is not None
        assert self._state is not None
        return self._state.text_model.visit(words, context.row_N[live] if has_rows else None)  # type: ignore[union-attr, index]

    def _observed(self, log_q: Float[Tensor, " N"], words: Words, visits_S: Float[Tensor, " S"]) -> Float[Tensor, " N"]:
        """The trust in each word and its text, once what both show of noise is counted."""
        state = self._state
        assert state is not None
        trust_in_word = self._trust_in_words(log_q, words, state.measured.word_rate)
        trust = torch.ones_like(log_q)
        if self._sides.texts:
            score_S = words.mean(state.text_model.evidence(log_q, words, visits_S[words.text]))
            state.pending.count_scores(score_S, words, self._counted(words))
            trust = TextTrust.of(state.measured, words, 1 - self._too_often(words))(score_S)[words.text]
        self._count_agreement(state.pending, log_q, words)
        # Noise words stay known, and go on being learned, while wrong texts are believed to be all that is wrong.
        suspicion = 1 - self._trust_in_words(log_q, words, state.measured.total)
        state.text_model.suspect(words, trust * suspicion)
        return trust * trust_in_word

    def _trust_in_words(
        self, log_q: Float[Tensor, " N"], words: Words, rate_G: Float[Tensor, " G"]
    ) -> Float[Tensor, " N"]:
        r"""The posterior of a right word, $q/(q + a)$ with $a = \epsilon n_w/(1-\epsilon)$.

        It is TaiLr's weight at $\gamma = a/(1+a)$ but for its factor 1 + a, which would tilt words of unequal noise
        (theory, 4.1).
        """
        return torch.sigmoid(log_q.clamp(min=LOG_FLOOR) - self._log_odds(words, rate_G))

    def _log_odds(self, words: Words, rate_G: Float[Tensor, " G"]) -> Float[Tensor, " N"]:
        """log a of each word."""
        rate, noise = rate_G[words.group], self._measured.noise[words.group, words.word]
        return (rate * noise / (1 - rate)).log()

    def _too_often(self, words: Words) -> Float[Tensor, " S"]:
        """The share of each text's occurrences that is too much."""
        return self._measured.repeated[words.group_S, words.signature()]

    def _counted(self, words: Words) -> Float[Tensor, " S"]:
        """0 for texts that stand too often, else 1: those are known to be wrong, and the rest is what is measured."""
        return (self._too_often(words) == 0).double()

    def _count_agreement(self, into: GroupLook, log_q: Float[Tensor, " N"], words: Words) -> None:
        agreement_S = words.mean(_agreement(log_q, self._measured.noise[words.group, words.word]))
        into.count_agreement(agreement_S, words, self._counted(words))

    @property
    def _measured(self) -> Measured:
        assert self._state is not None
        return self._state.measured

    # -- looks -------------------------------------------------------------------------------------------------------

    def _warming_up(self) -> bool:
        return self._steps == 0 or self._steps < self._warmup_steps

    def _known_groups(self) -> list[int]:
        """Groups of which words were seen."""
        return [] if self._state is None else (self._measured.noise.sum(1) > 0).nonzero()[:, 0].tolist()

    def observe_human(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        if self._warming_up():
            return
        state = self._allocated(logits_NV.shape[1], target_N.device)
        words = Words.of(None if context is None else replace(context, group_N=None), target_N, self._vocabulary)
        if not len(words.word):
            return
        log_qv = widened(logits_NV[target_N != IGNORED].detach()).log_softmax(-1)
        log_q = log_qv.gather(1, words.word[:, None])[:, 0].double()
        for index in self._known_groups():
            noise, people = state.measured.noise[index], state.people.of(index)
            agreement_S = words.mean(_agreement(log_q, noise[words.word]))
            # What noise words would show in each of these places.
            of_noise = torch.cat(
                [(_agreement(part.double(), noise) * noise).sum(1) for part in torch.split(log_qv, _CHUNK)]
            )
            score_S = words.mean(state.text_model.evidence(log_q, words.in_group(index)))
            people.add(agreement_S, words.mean(of_noise), score_S)
            people.repeats.index_add_(0, words.signature(), torch.ones_like(agreement_S))

    def corrupted(
        self, target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> list[tuple[int, Int[Tensor, " N"]]]:
        if self._warming_up() or not (self._sides.words and self._sides.texts):
            return []
        out, live = [], target_N != IGNORED
        count = int(live.sum())
        if not count:  # None of these texts could be read.
            return []
        for index in self._known_groups():
            assert self._state is not None
            rate = self._rate_of_corruption(index)
            if rate < LEAST_RATE:
                continue
            # On the CPU, so that all ranks and devices draw alike.
            seed = 1_000_003 * self._steps + int(self._state.people.texts[index])
            generator = torch.Generator().manual_seed(seed)
            noise = self._measured.noise[index].cpu()
            drawn = torch.multinomial(noise, count, replacement=True, generator=generator)
            hit = torch.rand(count, generator=generator) < rate
            replaced = target_N.clone()
            replaced[live] = torch.where(hit.to(target_N.device), drawn.to(target_N), target_N[live])
            out.append((index, replaced))
        return out

    def _rate_of_corruption(self, index: int) -> float:
        assert self._state is not None
        return float(self._measured.total[index]) if bool(self._state.last.texts[index]) else _FIRST_RATE

    def observe_corrupted(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        state = self._allocated(logits_NV.shape[1], target_N.device)
        words, live = Words.of(context, target_N, self._vocabulary), doubtful(context, target_N)
        score_S = words.mean(state.text_model.evidence(_log_q(logits_NV[live], words), words))
        rates = torch.tensor([self._rate_of_corruption(g) for g in range(self._num_groups)])
        state.people.add_corrupted(score_S, rates.to(score_S), words)

    def observe_source(
        self, logits_NV: Float[Tensor, "N V"], target_N: Int[Tensor, " N"], context: TokenContext | None = None
    ) -> None:
        if self._warming_up():
            return
        state = self._allocated(logits_NV.shape[1], target_N.device)
        words, live = Words.of(context, target_N, self._vocabulary), doubtful(context, target_N)
        if not len(words.word):
            return
        log_q = _log_q(logits_NV[live], words)
        if self._sides.texts:
            score_S = words.mean(state.text_model.evidence(log_q, words))
            state.held_out.count_scores(score_S, words, self._counted(words))
        self._count_agreement(state.held_out, log_q, words)

    # -- steps -------------------------------------------------------------------------------------------------------

    def step(self, all_reduce: AllReduce | None = None) -> None:
        if all_reduce is not None and self._steps == 0:
            self._share_vocabulary(all_reduce)
        state = self._state
        if state is None:
            return
        model, pending = state.text_model, [*state.text_model.pending.all(), *state.pending.all()]
        if all_reduce is not None:
            sums = all_reduce(torch.cat([table.flatten() for table in pending]))
            parts = torch.split(sums, [table.numel() for table in pending])
            pending = [part.view_as(table) for part, table in zip(parts, pending, strict=True)]
        count = len(model.pending.all())
        for table, new in zip(state.shown.all(), pending[count:], strict=True):
            table.add_(new)
        model.step(pending[:count])
        state.pending.zero_()
        self._steps += 1
        if state.people.texts.sum() > 0:
            for index in range(self._num_groups):
                state.look(index, self._sides)
            for tables in (state.people, state.held_out, state.shown):
                tables.zero_()
        # Before anything is suspected, any word of the group's may be noise.
        unsuspected = state.measured.total == 0
        state.measured.noise[unsuspected] = model.any_words()[unsuspected]

    def _share_vocabulary(self, all_reduce: AllReduce) -> None:
        """Make the state where another rank has one and this one saw no text yet: it adds nothing to their sums."""
        total, count = all_reduce(torch.tensor([self._vocabulary, int(self._vocabulary > 0)])).tolist()
        if self._state is None and count:
            # The first texts here show the device.
            self._allocated(total // count, torch.device("cpu"))

    # -- figures and state -------------------------------------------------------------------------------------------

    def noise_rates(self) -> Float[Tensor, " G"]:
        r"""$1 - (1-\rho)(1-\epsilon)$: the share of words that are noise, float64 (G,)."""
        if self._state is None:
            return torch.zeros(self._num_groups, dtype=torch.float64)
        return self._measured.noise_rates().cpu()

    def figures(self) -> dict[str, float]:
        if self._state is None:
            return {}
        rows = {
            "noise_words": self._measured.word_rate,
            "wrong_texts": self._measured.wrong_texts(),
            "repeated_texts": self._measured.repeated_rate,
            "noise_rate_error": self._measured.error,
        }
        out = super().figures()
        for name, row in rows.items():
            out |= {f"{name}/{g}": value for g, value in enumerate(row.tolist())}
        return out

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._state is None else {**self._state.saved(), "steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if not state:
            return
        words = state["counts.words"]
        self._num_groups, self._state = len(words), None
        self._allocated(words.shape[1], words.device).load(state)
        self._steps = int(state["steps"])


def _agreement(log_q: Float[Tensor, "*N"], noise: Float[Tensor, "*#N"]) -> Float[Tensor, "*N"]:
    """q / (q + n): the posterior of a right word at even odds, a bounded and monotone measure of q."""
    q = log_q.exp()
    return q / (q + noise).clamp(min=1e-300)


def _log_q(logits_NV: Float[Tensor, "N V"], words: Words) -> Float[Tensor, " N"]:
    """Log-probability of each word, float64."""
    return -torch.nn.functional.cross_entropy(widened(logits_NV.detach()), words.word, reduction="none").double()


def mixture(
    noise_max: float = 0.95, decay: float = 0.98, warmup_steps: int = 25, levels: str = "both", buckets: int = 1 << 18
) -> AdaptiveRule:
    r"""Trust in a word times trust in its text: $\omega_t = r_i\, q_t/(q_t + a_t)$ (ours).

    $a_t = \epsilon n_w/(1-\epsilon)$ comes from the group's measured noise words. $r_i$ is the posterior that the text
    belongs to its picture, from its mean evidence for the picture against a text-only model. $\epsilon$, n and the
    share of wrong texts are measured against people's texts; they are zero before two looks at them and for
    ``warmup_steps``.

    ``decay`` is the counts' memory per step, ``noise_max`` bounds both rates, ``levels`` is ``both``, ``words`` or
    ``texts``, ``buckets`` the slots of the text-only model's tables (8 bytes each, per group).

    Raises ValueError for values out of range.
    """
    check_shares("mixture", noise_max=noise_max, decay=decay)
    if warmup_steps < 0 or buckets < 1:
        raise ValueError(f"mixture: need warmup_steps >= 0 and buckets >= 1, got {warmup_steps}, {buckets}")
    if levels not in ("both", "words", "texts"):
        raise ValueError(f"mixture: levels must be 'both', 'words' or 'texts', got {levels!r}")
    sides = Sides(words=levels != "texts", texts=levels != "words", noise_max=noise_max)
    return Mixture(sides, decay, warmup_steps, buckets)

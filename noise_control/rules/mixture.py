r"""Whole captions that are wrong, and wrong words within right ones: a two-level mixture measured against people's texts.

Ours; derivation, guarantees and limits in ``docs/theory.md``, sections 4 to 6. Symbols: q the model, w the target, m a
text-only bigram model of the group's texts, n the group's noise words, $\epsilon$ the share of noise words in right texts,
$\rho$ the share of wrong texts. Suffixes: N tokens, S texts, G groups, V vocabulary, B buckets, K bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noise_control.interface import (
    IGNORED,
    LOG_FLOOR,
    AllReduce,
    TokenContext,
    TokenStatistics,
    check_shares,
    widened,
)
from noise_control.rules._base import AdaptiveRule, doubtful, group_of
from noise_control.rules._repeats import too_often
from noise_control.rules._scores import (
    BIN,
    BINS,
    CENTRES,
    HIGHEST,
    LEAST_RATE,
    LOWEST,
    corrupted,
    fit,
    pinned_mixture,
    posterior,
    recentred,
    shifted,
    stands_apart,
)

#: Places in a text that are told apart; later ones are alike.
_PLACES = 64
#: Slots for the visits of rows, and for texts that are repeated, per group.
_ROWS = 1 << 16
#: Pseudo-counts of the unigram in the text-only model.
_PRIOR = 2.0
#: Share of the group's own words in its noise words: a word not yet suspected may be noise too.
_NOISE_PRIOR = 0.1
#: How much likelier the model must find people's words than noise words before it can tell them apart.
_MIN_POWER = 0.1
#: Shares of the noise that may be in words rather than in whole texts.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Nats per text by which wrong texts must explain the scores better than noise words do, for what fitting alone gains: a part
#: for the normals' misfit, one for the chance in people's texts (divided by their number), and a little for each part in words,
#: so that of equal explanations the simple one wins.
_PRICE, _CHANCE_PRICE, _SHARE_PRICE = 0.05, 2.0, 0.01
#: The first part grows with the rate that words alone would have to explain, up to here: without noise there is no misfit of it.
_FULL_PRICE_RATE = 0.2
#: Rates from which EM looks for wrong texts.
_START_RATES = (0.25, 0.5, 0.75)
#: Looks for which wrong texts are believed in before noise words may claim the scores.
_TRIALS = 2
#: Noise words are put on people's texts at the rate last measured, at first at this one.
_FIRST_RATE = 0.3
#: Tokens whose whole vocabulary is looked at together.
_CHUNK = 256
#: What earlier stretches between two looks count, each against the next.
_STRETCH_DECAY = 0.5

#: Mean log-likelihood less prices; rate of noise words; rate, mean and spread of wrong texts where there are any.
_Explanation = tuple[float, float, tuple[float, float, float] | None]


@dataclass(frozen=True, kw_only=True)
class _Words:
    """The tokens that count of a batch, (N,): the word, its group, its text (numbered from 0), the word before it (V at a text's
    begin), its place in the text; and where each text begins, (S,)."""

    word: Tensor
    group: Tensor
    text: Tensor
    before: Tensor
    place: Tensor
    first: Tensor

    def signature(self) -> Tensor:
        """A number per text, the same for the same words, (S,)."""
        index = torch.arange(len(self.word), device=self.word.device) - self.first[self.text]
        mixed = (self.word + 1) * 1_000_003 + index * 7_919
        mixed = (mixed ^ (mixed >> 7)) * 2_654_435_761 % 2_147_483_647
        return torch.zeros_like(self.first).index_add_(0, self.text, mixed) % _ROWS

    @classmethod
    def of(cls, context: TokenContext | None, target_N: Tensor, vocabulary: int) -> _Words:
        live = doubtful(context, target_N)
        word = target_N[live]
        begins = torch.ones_like(word, dtype=torch.bool)
        if context is not None and context.sequence_N is not None:
            sequence = context.sequence_N.to(word.device)[live]
            begins[1:] = sequence[1:] != sequence[:-1]
        before = torch.full_like(word, vocabulary)
        before[1:] = torch.where(begins[1:], before[1:], word[:-1])
        text, first = begins.long().cumsum(0) - 1, begins.nonzero()[:, 0]
        place = (torch.arange(len(word), device=word.device) - first[text]).clamp(max=_PLACES - 1)
        return cls(
            word=word, group=group_of(context, target_N)[live], text=text, before=before, place=place, first=first
        )

    def in_group(self, index: int) -> _Words:
        return replace(self, group=torch.full_like(self.group, index))

    def mean(self, values_N: Tensor) -> Tensor:
        """Mean over each text's tokens, (S,)."""
        return torch.zeros_like(self.first, dtype=values_N.dtype).index_add_(0, self.text, values_N) / self.lengths()

    def lengths(self) -> Tensor:
        return torch.bincount(self.text, minlength=len(self.first))


class Mixture(AdaptiveRule):
    """State: decayed counts per group (float64, on the device of the data), and what was last measured from them."""

    wants_sequences = True

    def __init__(self, noise_max: float, decay: float, warmup_steps: int, levels: str, buckets: int) -> None:
        self.noise_max, self.decay, self.warmup_steps = noise_max, decay, warmup_steps
        self._buckets = buckets
        self.words, self.texts = levels in ("both", "words"), levels in ("both", "texts")
        self._num_groups = 1
        self._vocabulary = 0
        self._steps = 0
        self._counts: dict[str, Tensor] = {}
        self._pending: dict[str, Tensor] = {}
        self._human: dict[str, Tensor] = {}
        self._held: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}
        self._stretches: dict[str, Tensor] = {}
        #: What was measured, one row a group: see :meth:`_allocate`.
        self._found: dict[str, Tensor] = {}

    # -- shapes ------------------------------------------------------------------------------------------------------

    def prepare(self, *, num_groups: int) -> None:
        self._num_groups = max(self._num_groups, num_groups)

    def _allocate(self, vocabulary: int, device: torch.device) -> None:
        if self._vocabulary:
            if vocabulary != self._vocabulary:
                raise ValueError(f"mixture: the vocabulary was {self._vocabulary}, now it is {vocabulary}")
            return
        self._vocabulary = vocabulary
        groups = self._num_groups

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64, device=device)

        for table in (self._counts, self._pending):
            table.update(
                # For the text-only model: words, words by the word before and by place, and visits of rows.
                words=zeros(vocabulary), before=zeros(vocabulary + 1), bigrams=zeros(self._buckets), places=zeros(_PLACES),
                placed=zeros(self._buckets), visits=zeros(_ROWS), repeats=zeros(_ROWS),
                # Words suspected in trusted texts; since the last look, texts' agreement and number, and their scores.
                suspected=zeros(vocabulary), agreement=zeros(3), scores=zeros(BINS),
            )  # fmt: skip
        # People's texts at this look, summed: agreement of their words, of noise words in their places, its square, number of
        # texts; their scores, squared too; and the same with the group's noise words in them, the number of such texts, and the
        # rate of the words.
        self._human.update(agreement=zeros(4), scores=zeros(2), corrupted=zeros(4), repeats=zeros(_ROWS))
        # The group's texts that are held out from training, at the same look.
        self._held.update(agreement=zeros(3), scores=zeros(BINS))
        # The same per text at the look before; and, over the stretches between looks, sums over the group's texts in them of what
        # they showed and of what people's texts showed meanwhile.
        self._last.update(agreement=zeros(4), scores=zeros(2), corrupted=zeros(4))
        self._stretches.update(
            agreement=zeros(3), scores=zeros(BINS), human_agreement=zeros(4), human_scores=zeros(2), corrupted=zeros(4)
        )
        # Noise words; both rates, the standard error of their sum; people's mean score now, and the normals of right and wrong
        # texts' scores relative to it; looks for which wrong texts were believed in; share of texts that stand too often, and
        # the share of each of them that is too much; share of noise of either kind among the others.
        self._found.update(
            noise=zeros(vocabulary), word_rate=zeros(), text_rate=zeros(), error=zeros(), centre=zeros(), right=zeros(2),
            wrong=zeros(2), trials=zeros(), repeated_rate=zeros(), repeated=zeros(_ROWS), total=zeros(),
        )  # fmt: skip

    # -- what a batch shows --------------------------------------------------------------------------------------------

    def weight(self, statistics: TokenStatistics, target_N: Tensor, context: TokenContext | None) -> Tensor | None:
        self._allocate(statistics.vocabulary, target_N.device)
        words, live = _Words.of(context, target_N, self._vocabulary), doubtful(context, target_N)
        if not len(words.word):
            return None
        log_q = -statistics.nll_N[live].double()
        own_S = self._own_visits(words, None if context is None or context.row_N is None else context.row_N[live])
        self._count_words(words)
        if self._steps == 0:
            return None
        trust_in_word = self._trust_in_words(log_q, words, self._found["word_rate"])
        trust = torch.ones_like(log_q)
        if self.texts:
            score_S = words.mean(self._evidence(log_q, words, own_S[words.text]))
            self._count_scores(self._pending, score_S, words)
            trust = (self._trust_in_texts(score_S, words) * (1 - self._too_often(words)))[words.text]
        self._count_agreement(self._pending, log_q, words)
        # Noise words stay known, and go on being learned, while wrong texts are believed to be all that is wrong.
        suspicion = 1 - self._trust_in_words(log_q, words, self._found["total"])
        self._pending["suspected"].index_put_((words.group, words.word), trust * suspicion, accumulate=True)
        if not bool((self.noise_rates() > 0).any()):
            return None
        weight_N = torch.ones_like(statistics.nll_N)
        weight_N[live] = (trust * trust_in_word).to(weight_N.dtype)
        return weight_N

    def _count_words(self, words: _Words) -> None:
        one = torch.ones_like(words.word, dtype=torch.float64)
        tables = {
            "words": words.word,
            "before": words.before,
            "bigrams": self._bucket(words.before, words.word),
            "places": words.place,
            "placed": self._bucket(words.place, words.word),
        }
        for name, index in tables.items():
            self._pending[name].index_put_((words.group, index), one, accumulate=True)
        one = torch.ones_like(words.first, dtype=torch.float64)
        self._pending["repeats"].index_put_((words.group[words.first], words.signature()), one, accumulate=True)

    def _own_visits(self, words: _Words, row_N: Tensor | None) -> Tensor:
        """How often each text itself is among the counts, decayed as they are, (S,); and count this visit."""
        if row_N is None:
            return torch.zeros_like(words.first, dtype=torch.float64)
        slot = (words.group[words.first], row_N.to(words.first.device)[words.first] % _ROWS)
        self._pending["visits"].index_put_(slot, torch.ones_like(words.first, dtype=torch.float64), accumulate=True)
        return self._counts["visits"][slot]

    def _count_scores(self, into: dict[str, Tensor], score_S: Tensor, words: _Words) -> None:
        bins = ((score_S - LOWEST) / BIN).long().clamp(0, BINS - 1)
        into["scores"].index_put_((words.group[words.first], bins), self._counted(words), accumulate=True)

    def _count_agreement(self, into: dict[str, Tensor], log_q: Tensor, words: _Words) -> None:
        agreement_S = words.mean(_agreement(log_q, self._found["noise"][words.group, words.word]))
        shown = torch.stack([agreement_S, agreement_S**2, torch.ones_like(agreement_S)], 1)
        into["agreement"].index_add_(0, words.group[words.first], shown * self._counted(words)[:, None])

    def _too_often(self, words: _Words) -> Tensor:
        """The share of each text's occurrences that is too much, (S,)."""
        return self._found["repeated"][words.group[words.first], words.signature()]

    def _counted(self, words: _Words) -> Tensor:
        """Texts that stand too often are known to be wrong: the rest is what is measured. (S,), 0 or 1."""
        return (self._too_often(words) == 0).double()

    def _trust_in_words(self, log_q: Tensor, words: _Words, rate_G: Tensor) -> Tensor:
        r"""The posterior of a right word, $q/(q + a)$ with $a = \epsilon n_w/(1-\epsilon)$: TaiLr's weight at $\gamma = a/(1+a)$
        but for its factor 1 + a, which would tilt words of unequal noise (theory, 4.1)."""
        rate, noise = rate_G[words.group], self._found["noise"][words.group, words.word]
        return torch.sigmoid(log_q.clamp(min=LOG_FLOOR) - (rate * noise / (1 - rate)).log())

    def _evidence(self, log_q: Tensor, words: _Words, own: Tensor | None = None) -> Tensor:
        r"""$\log(q/m)$ of each word: for the picture against for any text; bounded, so that no single word decides."""
        return (log_q - self._text_only(words, own).log()).clamp(LOWEST, HIGHEST)

    def _text_only(self, words: _Words, own: Tensor | None) -> Tensor:
        """m: half from the word before, half from the place, the unigram as prior of both; without the ``own`` earlier visits of
        the text itself, or a text that is read every epoch would look expected where people's texts, never counted, do not."""
        counts, group = self._counts, words.group
        unigram = (counts["words"][group, words.word] + 0.01) / (
            counts["words"].sum(1)[group] + 0.01 * self._vocabulary
        )
        half = []
        for pairs_table, given_table, given in (("bigrams", "before", words.before), ("placed", "places", words.place)):
            pairs, total = (
                counts[pairs_table][group, self._bucket(given, words.word)],
                counts[given_table][group, given],
            )
            if own is not None:
                pairs, total = (pairs - own).clamp(min=0), (total - own).clamp(min=0)
            half.append(0.5 * (pairs + _PRIOR * unigram) / (total + _PRIOR))
        return half[0] + half[1]

    def _bucket(self, given: Tensor, word: Tensor) -> Tensor:
        return (given * 1_000_003 + word * 7_919) % self._buckets

    def _trust_in_texts(self, score_S: Tensor, words: _Words) -> Tensor:
        """Posterior that a text is right, rising with its score (theory, 4.3)."""
        group_S = words.group[words.first]
        rate = self._found["text_rate"][group_S]
        right, wrong = self._found["right"][group_S], self._found["wrong"][group_S]
        relative = score_S - self._found["centre"][group_S]
        trust = posterior(relative, rate, (right[:, 0], right[:, 1]), (wrong[:, 0], wrong[:, 1]))
        return torch.where(rate > 0, trust, torch.ones_like(trust))

    # -- what people's texts show ----------------------------------------------------------------------------------------

    def observe_human(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None) -> None:
        if self._steps == 0 or self._steps < self.warmup_steps:
            return
        self._allocate(logits_NV.shape[1], target_N.device)
        words = _Words.of(None if context is None else replace(context, group_N=None), target_N, self._vocabulary)
        if not len(words.word):
            return
        log_qv = widened(logits_NV[target_N != IGNORED]).log_softmax(-1)
        log_q = log_qv.gather(1, words.word[:, None])[:, 0].double()
        for index in self._known_groups():
            noise = self._found["noise"][index]
            own_S = words.mean(_agreement(log_q, noise[words.word]))
            # What noise words would show in each of these places.
            of_noise = torch.cat(
                [(_agreement(part.double(), noise) * noise).sum(1) for part in torch.split(log_qv, _CHUNK)]
            )
            parts = (own_S, words.mean(of_noise), own_S**2, torch.ones_like(own_S))
            self._human["agreement"][index] += torch.stack(parts, 1).sum(0)
            self._human["repeats"][index].index_add_(0, words.signature(), torch.ones_like(own_S))
            score_S = words.mean(self._evidence(log_q, words.in_group(index)))
            self._human["scores"][index] += torch.stack((score_S, score_S**2), 1).sum(0)

    def _known_groups(self) -> list[int]:
        """Groups of which words were seen."""
        return (self._found["noise"].sum(1) > 0).nonzero()[:, 0].tolist() if self._vocabulary else []

    def corrupted(self, target_N: Tensor, context: TokenContext | None) -> list[tuple[int, Tensor]]:
        if self._steps == 0 or self._steps < self.warmup_steps or not (self.words and self.texts):
            return []
        out, live = [], target_N != IGNORED
        count = int(live.sum())
        for index in self._known_groups():
            rate = self._rate_of_corruption(index)
            if rate < LEAST_RATE:
                continue
            # On the CPU, so that all ranks and devices draw alike.
            generator = torch.Generator().manual_seed(1_000_003 * self._steps + int(self._human["agreement"][index, 3]))
            drawn = torch.multinomial(self._found["noise"][index].cpu(), count, replacement=True, generator=generator)
            hit = torch.rand(count, generator=generator) < rate
            replaced = target_N.clone()
            replaced[live] = torch.where(hit.to(target_N.device), drawn.to(target_N), target_N[live])
            out.append((index, replaced))
        return out

    def _rate_of_corruption(self, index: int) -> float:
        return float(self._found["total"][index]) if bool(self._last["agreement"][index, 3]) else _FIRST_RATE

    def observe_corrupted(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None) -> None:
        words, live = _Words.of(context, target_N, self._vocabulary), doubtful(context, target_N)
        log_q = -torch.nn.functional.cross_entropy(widened(logits_NV[live]), words.word, reduction="none").double()
        score_S = words.mean(self._evidence(log_q, words))
        rate_S = torch.tensor([self._rate_of_corruption(g) for g in range(self._num_groups)]).to(score_S)[
            words.group[words.first]
        ]
        shown = torch.stack((score_S, score_S**2, torch.ones_like(score_S), rate_S), 1)
        self._human["corrupted"].index_add_(0, words.group[words.first], shown)

    def observe_source(self, logits_NV: Tensor, target_N: Tensor, context: TokenContext | None) -> None:
        if self._steps == 0 or self._steps < self.warmup_steps:
            return
        self._allocate(logits_NV.shape[1], target_N.device)
        words, live = _Words.of(context, target_N, self._vocabulary), doubtful(context, target_N)
        if not len(words.word):
            return
        log_q = -torch.nn.functional.cross_entropy(widened(logits_NV[live]), words.word, reduction="none").double()
        if self.texts:
            self._count_scores(self._held, words.mean(self._evidence(log_q, words)), words)
        self._count_agreement(self._held, log_q, words)

    # -- what is made of it ----------------------------------------------------------------------------------------------

    def step(self, all_reduce: AllReduce | None) -> None:
        if not self._vocabulary:
            if all_reduce is not None:
                raise ValueError("mixture: a rank had no batch before the first step")
            return
        pending = dict(self._pending)
        if all_reduce is not None:
            flat = all_reduce(torch.cat([table.flatten() for table in pending.values()]))
            parts = torch.split(flat, [table.numel() for table in pending.values()])
            pending = {name: part.view_as(pending[name]) for name, part in zip(pending, parts, strict=True)}
        for name, table in self._counts.items():
            table.mul_(1.0 if name in ("scores", "agreement") else self.decay).add_(pending[name])
            self._pending[name].zero_()
        self._steps += 1
        if self._human["agreement"].sum() > 0:
            for index in range(self._num_groups):
                self._look(index)
            for table in (
                *self._human.values(),
                *self._held.values(),
                self._counts["scores"],
                self._counts["agreement"],
            ):
                table.zero_()
        # Before anything is suspected, any word of the group's may be noise.
        unsuspected = self._found["total"] == 0
        words = self._counts["words"]
        self._found["noise"][unsuspected] = (words / words.sum(1, keepdim=True).clamp(min=1))[unsuspected]

    def _look(self, index: int) -> None:
        """Texts of the group that are held out from training were scored at the same moment as people's, and are set against them.

        Without any, the group's own texts were scored all along since the last look, and the model learns meanwhile. Then the
        group's mean is set against the mean of people's looks at both ends, and scores are kept relative to people's mean score:
        a steady rise cancels (theory, 4.5); that the model knows its own texts better than people's does not."""
        num_people = float(self._human["agreement"][index, 3])
        if not num_people:  # None of the group's words was known yet.
            return
        now = {name: self._human[name][index] / num_people for name in ("agreement", "scores")}
        noisy = self._human["corrupted"][index]
        # Not shown, since there is hardly any noise: then it does not matter how it would score.
        now["corrupted"] = noisy / noisy[2] if bool(noisy[2]) else torch.cat([now["scores"], noisy.new_ones(2)])
        found, last = self._found, {name: self._last[name][index] for name in now}
        known = bool(last["agreement"][3])
        if self.texts:
            repeats_K, visits = self._counts["repeats"][index], self._counts["visits"][index]
            num_rows = float((visits > 0).sum()) or float(repeats_K.sum())
            found["repeated"][index] = too_often(repeats_K, num_rows, self._human["repeats"][index])
            found["repeated_rate"][index] = (found["repeated"][index] * repeats_K).sum() / repeats_K.sum()
        # Where people's mean will be, on average, until the next look.
        found["centre"][index] = now["scores"][0] + ((now["scores"][0] - last["scores"][0]) / 2 if known else 0.0)
        if bool(self._held["agreement"][index, 2]):
            self._add_stretch(index, self._held, now)
            self._measure(index, num_people, float(self._held["agreement"][index, 2]))
        elif known and bool(self._counts["agreement"][index, 2]):
            self._add_stretch(index, self._counts, {name: (last[name] + now[name]) / 2 for name in now})
            self._measure(index, num_people, math.inf)
        for name, table in now.items():
            self._last[name][index] = table

    def _add_stretch(self, index: int, shown: dict[str, Tensor], people: dict[str, Tensor]) -> None:
        """Add what the group's texts showed, and what people's did meanwhile, weighted by the group's number of texts."""
        texts, centre = shown["agreement"][index, 2], float(people["scores"][0])
        parts = {
            "agreement": shown["agreement"][index],
            "scores": shifted(shown["scores"][index], -centre),
            "human_agreement": texts * people["agreement"],
            "human_scores": texts * recentred(people["scores"], centre),
            "corrupted": texts * recentred(people["corrupted"], centre),
        }
        for name, part in parts.items():
            self._stretches[name][index] = _STRETCH_DECAY * self._stretches[name][index] + part

    def _measure(self, index: int, num_people: float, num_held: float) -> None:
        found, stretches = self._found, self._stretches
        total, error = self._total_rate(index, num_people, num_held)
        texts = stretches["agreement"][index, 2]
        people = torch.cat([stretches["human_scores"][index], stretches["corrupted"][index]]).div(texts).tolist()
        found["total"][index] = total
        explained: list[_Explanation] = [(0.0, total if self.words else 0.0, None)]
        if self.texts and bool(stretches["scores"][index].sum()):
            scores = stretches["scores"][index].cpu()
            chance = _CHANCE_PRICE * (1 / num_people + 1 / num_held)
            explained = self._explanations(scores, people, chance, total)
            # A model that learned the noise can't tell at first whether texts or words are wrong. Believing in wrong texts for two
            # looks shows it: if they are, they part from the others, and if not, not.
            trial = [e for e in explained if e[2] is not None and e[1] == 0.0]
            early = bool(found["trials"][index] < _TRIALS)
            if self.words and early and trial and max(trial)[0] > fit(scores, [(1.0, *corrupted(people, 0.0))]):
                explained = trial
        _, words, wrong = max(explained, key=lambda e: e[0])
        found["trials"][index] += wrong is not None
        found["word_rate"][index], found["error"][index] = words, error
        found["text_rate"][index] = 0.0
        if wrong is not None:
            found["text_rate"][index] = wrong[0]
            found["right"][index] = torch.tensor(corrupted(people, words))
            found["wrong"][index] = torch.tensor(wrong[1:])
        if total > 0:
            self._find_noise_words(index)

    def _total_rate(self, index: int, num_people: float, num_held: float) -> tuple[float, float]:
        r"""Share of noise of either kind by moments, $(h - s)/(h - \nu)$, and its standard error (theory, 4.2)."""
        group, group_squares, texts = self._stretches["agreement"][index].tolist()
        if not texts:  # All of them stand too often.
            return 0.0, 0.0
        own, noise, squares, _ = (self._stretches["human_agreement"][index] / texts).tolist()
        group, group_squares = group / texts, group_squares / texts
        if own - noise < _MIN_POWER:
            return 0.0, 0.0
        variance = max(squares - own**2, 0.0) / num_people + max(group_squares - group**2, 0.0) / num_held
        return min(max((own - group) / (own - noise), 0.0), self.noise_max), math.sqrt(variance) / (own - noise)

    def _explanations(self, scores: Tensor, people: list[float], chance: float, total: float) -> list[_Explanation]:
        """How well the scores are explained, by how much of the noise is in words (theory, 4.4)."""
        shares = _SHARES if self.words and total > 0 else (0.0,)
        # Without wrong texts all noise is in words, and its rate is known: nothing is fitted.
        without = shares[-1] * total
        explained: list[_Explanation] = [(fit(scores, [(1.0, *corrupted(people, without))]), without, None)]
        price = chance + _PRICE * min(1.0, total / _FULL_PRICE_RATE)
        for share in shares:
            right = corrupted(people, share * total)
            # EM goes where it starts: from wrong texts far off, and from each rate that would move the mean as far as it is.
            moved = right[0] - float((scores * CENTRES).sum() / scores.sum())
            starts = [
                (0.3, right[0] - 2 * right[1]),
                *((rate, right[0] - moved / rate) for rate in _START_RATES if moved > 0),
            ]
            for rate, mean in starts:
                wrong = pinned_mixture(scores, right, (rate, mean, right[1]), self.noise_max)
                if wrong is not None and (not self.words or stands_apart(wrong, people)):
                    value = fit(scores, [(1 - wrong[0], *right), (wrong[0], *wrong[1:])])
                    explained.append((value - price - _SHARE_PRICE * share, share * total, wrong))
        return explained

    def _find_noise_words(self, index: int) -> None:
        """Noise words are those that are suspected in trusted texts: the M-step of the words' mixture."""
        suspected, words = self._counts["suspected"][index], self._counts["words"][index]
        if suspected.sum() > 0:
            self._found["noise"][index] = (
                1 - _NOISE_PRIOR
            ) * suspected / suspected.sum() + _NOISE_PRIOR * words / words.sum()

    # -- what is told ------------------------------------------------------------------------------------------------------

    def noise_rates(self) -> Tensor:
        r"""$1 - (1-\rho)(1-\epsilon)$: the share of words that are noise, float64 (G,)."""
        if not self._vocabulary:
            return torch.zeros(self._num_groups, dtype=torch.float64)
        return (1 - (1 - self._found["word_rate"]) * (1 - self._wrong_texts())).cpu()

    def _wrong_texts(self) -> Tensor:
        return 1 - (1 - self._found["text_rate"]) * (1 - self._found["repeated_rate"])

    def figures(self) -> dict[str, float]:
        if not self._vocabulary:
            return {}
        found = {
            "noise_words": self._found["word_rate"], "wrong_texts": self._wrong_texts(), "repeated_texts": self._found["repeated_rate"],
            "noise_rate_error": self._found["error"],
        }  # fmt: skip
        return super().figures() | {
            f"{name}/{g}": value for name, row in found.items() for g, value in enumerate(row.tolist())
        }

    def state_dict(self) -> dict[str, Tensor]:
        if not self._vocabulary:
            return {}
        state = {f"{kind}.{name}": table for kind, found in self._tables() for name, table in found.items()}
        return {**state, "steps": torch.tensor(self._steps)}

    def _tables(self) -> list[tuple[str, dict[str, Tensor]]]:
        return [
            ("counts", self._counts),
            ("human", self._human),
            ("held", self._held),
            ("last", self._last),
            ("stretches", self._stretches),
            ("found", self._found),
        ]

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if not state:
            return
        words = state["counts.words"]
        self._num_groups, self._vocabulary = len(words), 0
        self._allocate(words.shape[1], words.device)
        for kind, tables in self._tables():
            for name, table in tables.items():
                table.copy_(state[f"{kind}.{name}"])
        self._steps = int(state["steps"])


def _agreement(log_q: Tensor, noise: Tensor) -> Tensor:
    """q / (q + n): the posterior of a right word at even odds, a bounded and monotone measure of q."""
    q = log_q.exp()
    return q / (q + noise).clamp(min=1e-300)


def mixture(
    noise_max: float = 0.95, decay: float = 0.98, warmup_steps: int = 25, levels: str = "both", buckets: int = 1 << 18
) -> AdaptiveRule:
    r"""Trust in a word times trust in its text: $\omega_t = r_i\, q_t/(q_t + a_t)$ (ours).

    $a_t = \epsilon n_w/(1-\epsilon)$ from the group's measured noise words, $r_i$ the posterior that the text belongs to its
    picture, from its mean evidence for the picture against a text-only model; $\epsilon$, n and the share of wrong texts are
    measured against people's texts, zero before two looks at them and for ``warmup_steps``. ``decay`` is the counts' memory per
    step, ``noise_max`` bounds both rates, ``levels`` is ``both``, ``words`` or ``texts``, ``buckets`` the slots of the text-only
    model's tables (8 bytes each, per group). Raises ValueError for values out of range.
    """
    check_shares("mixture", noise_max=noise_max, decay=decay)
    if warmup_steps < 0 or buckets < 1:
        raise ValueError(f"mixture: need warmup_steps >= 0 and buckets >= 1, got {warmup_steps}, {buckets}")
    if levels not in ("both", "words", "texts"):
        raise ValueError(f"mixture: levels must be 'both', 'words' or 'texts', got {levels!r}")
    return Mixture(noise_max, decay, warmup_steps, levels, buckets)

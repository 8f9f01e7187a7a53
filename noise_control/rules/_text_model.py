"""A text-only model of each group's texts: its counts, and the evidence that a text is about its picture.

Ours; ``docs/theory.md`` 4.3. Suffixes: N tokens, S texts, G groups, V vocabulary, B buckets, R slots of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise_control.interface import TokenContext
from noise_control.rules._base import doubtful, group_of
from noise_control.rules._scores import HIGHEST, LOWEST
from noise_control.rules._tables import Tables, saved

#: Places in a text that are told apart; later ones are alike.
_PLACES = 64
#: Slots for the visits of rows, and for texts that are repeated, per group.
ROWS = 1 << 16
#: Pseudo-counts of the unigram in the text-only model.
_PRIOR = 2.0
#: Share of the group's own words in its noise words: a word not yet suspected may be noise too.
_NOISE_PRIOR = 0.1


@dataclass(frozen=True, kw_only=True)
class Words:
    """The tokens of a batch that count, (N,), and where each text begins, (S,).

    ``text`` numbers texts from 0, ``before`` is the word before (V at a text's begin), ``place`` the place in the text.
    """

    word: Int[Tensor, " N"]
    group: Int[Tensor, " N"]
    text: Int[Tensor, " N"]
    before: Int[Tensor, " N"]
    place: Int[Tensor, " N"]
    first: Int[Tensor, " S"]

    @classmethod
    def of(cls, context: TokenContext | None, target_N: Int[Tensor, " all"], vocabulary: int) -> Words:
        """The words that nobody vouches for; without sequences in the context each token is a text."""
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
        group = group_of(context, target_N)[live]
        return cls(word=word, group=group, text=text, before=before, place=place, first=first)

    @property
    def group_S(self) -> Int[Tensor, " S"]:
        """The group of each text."""
        return self.group[self.first]

    def in_group(self, index: int) -> Words:
        """The same words, as if they were this group's."""
        return replace(self, group=torch.full_like(self.group, index))

    def mean(self, values_N: Float[Tensor, " N"]) -> Float[Tensor, " S"]:
        """Mean over each text's tokens."""
        return torch.zeros_like(self.first, dtype=values_N.dtype).index_add_(0, self.text, values_N) / self.lengths()

    def lengths(self) -> Int[Tensor, " S"]:
        """Tokens of each text; not by bincount, for which a GPU is waited for."""
        return torch.zeros_like(self.first).index_add_(0, self.text, torch.ones_like(self.text))

    def signature(self) -> Int[Tensor, " S"]:
        """A slot per text, the same for the same words, in [0, R)."""
        index = torch.arange(len(self.word), device=self.word.device) - self.first[self.text]
        mixed = (self.word + 1) * 1_000_003 + index * 7_919
        mixed = (mixed ^ (mixed >> 7)) * 2_654_435_761 % 2_147_483_647
        return torch.zeros_like(self.first).index_add_(0, self.text, mixed) % ROWS


@dataclass(frozen=True, kw_only=True)
class TextCounts(Tables):
    """Counts of words, of words by the word before and by place, of visits of rows and texts, of suspected words."""

    words: Float[Tensor, "*G V"] = field(metadata=saved("words", "vocabulary"))
    before: Float[Tensor, "*G V+1"] = field(metadata=saved("before", "contexts"))
    bigrams: Float[Tensor, "*G B"] = field(metadata=saved("bigrams", "buckets"))
    places: Float[Tensor, "*G places"] = field(metadata=saved("places", _PLACES))
    placed: Float[Tensor, "*G B"] = field(metadata=saved("placed", "buckets"))
    visits: Float[Tensor, "*G R"] = field(metadata=saved("visits", ROWS))
    repeats: Float[Tensor, "*G R"] = field(metadata=saved("repeats", ROWS))
    suspected: Float[Tensor, "*G V"] = field(metadata=saved("suspected", "vocabulary"))


class TextModel:
    """Counts of each group's texts, decayed at each step, and what they make likely without a picture."""

    def __init__(self, groups: int, vocabulary: int, buckets: int, decay: float, device: torch.device) -> None:
        self._vocabulary, self.buckets, self.decay = vocabulary, buckets, decay
        sizes = {"vocabulary": vocabulary, "contexts": vocabulary + 1, "buckets": buckets}
        self.counts = TextCounts.zeros(groups, device, **sizes)
        self.pending = TextCounts.zeros(groups, device, **sizes)

    def count(self, words: Words) -> None:
        """Count these words and texts, for the next :meth:`step`."""
        pending, one_N = self.pending, torch.ones_like(words.word, dtype=torch.float64)
        for table, index in (
            (pending.words, words.word),
            (pending.before, words.before),
            (pending.bigrams, self._bucket(words.before, words.word)),
            (pending.places, words.place),
            (pending.placed, self._bucket(words.place, words.word)),
        ):
            table.index_put_((words.group, index), one_N, accumulate=True)
        one_S = torch.ones_like(words.first, dtype=torch.float64)
        pending.repeats.index_put_((words.group_S, words.signature()), one_S, accumulate=True)

    def visit(self, words: Words, row_N: Int[Tensor, " N"] | None) -> Float[Tensor, " S"]:
        """How often each text is among the counts, decayed as they are; and count this visit."""
        if row_N is None:
            return torch.zeros_like(words.first, dtype=torch.float64)
        slot = (words.group_S, row_N.to(words.first.device)[words.first] % ROWS)
        one_S = torch.ones_like(words.first, dtype=torch.float64)
        self.pending.visits.index_put_(slot, one_S, accumulate=True)
        return self.counts.visits[slot]

    def suspect(self, words: Words, suspicion_N: Float[Tensor, " N"]) -> None:
        """Count words as noise words, by how much each is suspected, in [0, 1]."""
        self.pending.suspected.index_put_((words.group, words.word), suspicion_N, accumulate=True)

    def step(self, pending: list[Tensor]) -> None:
        """Decay the counts, and add ``pending``: those of all ranks, in the order of the tables."""
        for table, new in zip(self.counts.all(), pending, strict=True):
            table.mul_(self.decay).add_(new)
        self.pending.zero_()

    def any_words(self) -> Float[Tensor, "G V"]:
        """Shares of all words in each group's texts; zero where none was seen."""
        words = self.counts.words
        return words / words.sum(1, keepdim=True).clamp(min=1)

    def noise_words(self, index: int) -> Float[Tensor, " V"] | None:
        """Shares of words in the group's noise: the M-step of the words' mixture. None where none is suspected."""
        suspected, words = self.counts.suspected[index], self.counts.words[index]
        if not suspected.sum() > 0:
            return None
        return (1 - _NOISE_PRIOR) * suspected / suspected.sum() + _NOISE_PRIOR * words / words.sum()

    def evidence(
        self, log_q: Float[Tensor, " N"], words: Words, visits_N: Float[Tensor, " N"] | None = None
    ) -> Float[Tensor, " N"]:
        r"""$\log(q/m)$ of each word: for the picture against for any text; bounded, so that no single word decides."""
        return (log_q - self.log_probability(words, visits_N)).clamp(LOWEST, HIGHEST)

    def log_probability(self, words: Words, visits_N: Float[Tensor, " N"] | None) -> Float[Tensor, " N"]:
        """log m, where m is half from the word before, half from the place, the unigram as prior of both.

        ``visits_N`` earlier visits of the text itself are taken off. A text that is read every epoch would else look
        expected where people's texts, never counted, do not.
        """
        counts, group = self.counts, words.group
        seen = counts.words.sum(1)[group] + 0.01 * self._vocabulary
        unigram = (counts.words[group, words.word] + 0.01) / seen
        half = []
        for pairs_table, given_table, given in (
            (counts.bigrams, counts.before, words.before),
            (counts.placed, counts.places, words.place),
        ):
            pairs, total = pairs_table[group, self._bucket(given, words.word)], given_table[group, given]
            if visits_N is not None:
                pairs, total = (pairs - visits_N).clamp(min=0), (total - visits_N).clamp(min=0)
            half.append(0.5 * (pairs + _PRIOR * unigram) / (total + _PRIOR))
        return (half[0] + half[1]).log()

    def _bucket(self, given: Int[Tensor, " N"], word: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return (given * 1_000_003 + word * 7_919) % self.buckets

"""The state of the mixture rule, and how a look at people's texts measures a group's noise.

Ours; ``docs/theory.md``, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_control.rules._look import GroupLook, Measured, PeopleLook, PeopleSums, Stretch, Stretches
from noise_control.rules._repeats import too_often
from noise_control.rules._scores import Explanation, explanations, fit
from noise_control.rules._text_model import TextModel

#: Price of wrong texts for the chance in people's texts: nats per text, times one over their number.
_CHANCE_PRICE = 2.0
#: Looks for which wrong texts are believed in before noise words may claim the scores.
_TRIALS = 2


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Whether noise words and wrong texts are looked for, and the highest rate of either."""

    words: bool
    texts: bool
    noise_max: float


@dataclass(frozen=True, kw_only=True)
class State:
    """All that the rule keeps, in tables with a row per group, on the device of the data.

    ``shown`` are the group's texts in training since the last look, ``pending`` those of this step and rank. ``people``
    and ``held_out`` are of the look under way, ``last`` are people's means at the look before.
    """

    text_model: TextModel
    shown: GroupLook
    pending: GroupLook
    people: PeopleSums
    held_out: GroupLook
    last: PeopleLook
    stretches: Stretches
    measured: Measured

    @classmethod
    def empty(cls, groups: int, vocabulary: int, buckets: int, decay: float, device: torch.device) -> State:
        return cls(
            text_model=TextModel(groups, vocabulary, buckets, decay, device),
            shown=GroupLook.zeros(groups, device),
            pending=GroupLook.zeros(groups, device),
            people=PeopleSums.zeros(groups, device),
            held_out=GroupLook.zeros(groups, device),
            last=PeopleLook.zeros(groups, device),
            stretches=Stretches(groups, device),
            measured=Measured.zeros(groups, device, vocabulary=vocabulary),
        )

    @property
    def device(self) -> torch.device:
        """Where its tables lie."""
        return self.measured.noise.device

    def moved(self, device: torch.device) -> State:
        """The same on another device; between two steps, since nothing that is not yet added up comes along."""
        model, measured = self.text_model, self.measured
        out = State.empty(len(measured.noise), measured.noise.shape[1], model.buckets, model.decay, device)
        out.load({name: table.to(device) for name, table in self.saved().items()})
        return out

    def saved(self) -> dict[str, Tensor]:
        tables = (
            *((self.text_model.counts, "counts"), (self.shown, "counts"), (self.people, "human")),
            *((self.held_out, "held"), (self.last, "last"), (self.measured, "found")),
        )
        state = self.stretches.state()
        for table, prefix in tables:
            state |= table.state(prefix)
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        self.text_model.counts.load("counts", state)
        self.shown.load("counts", state)
        self.people.load("human", state)
        self.held_out.load("held", state)
        self.last.load("last", state)
        self.measured.load("found", state)
        self.stretches.load(state)

    def look(self, index: int, sides: Sides) -> None:
        """Measure a group against people's texts, which were scored at the same moment as its held-out ones.

        Without held-out texts, the group's own were scored all along since the last look, and the model learns
        meanwhile. Then the group's mean is set against the mean of people's looks at both ends, and scores are kept
        relative to people's mean score: a steady rise cancels (theory, 4.5). That the model knows its own texts better
        than people's does not.
        """
        people = self.people.of(index)
        num_people = float(people.texts)
        if not num_people:  # None of the group's words was known yet.
            return
        now, last, measured = people.mean(), self.last.of(index), self.measured.of(index)
        seen_before = bool(last.texts)
        if sides.texts:
            counts = self.text_model.counts.of(index)
            num_rows = float((counts.visits > 0).sum()) or float(counts.repeats.sum())
            measured.repeated.copy_(too_often(counts.repeats, num_rows, people.repeats))
            measured.repeated_rate.copy_((measured.repeated * counts.repeats).sum() / counts.repeats.sum())
        # Where people's mean will be, on average, until the next look.
        measured.centre.copy_(now.score + ((now.score - last.score) / 2 if seen_before else 0.0))
        held_out, shown, stretch = self.held_out.of(index), self.shown.of(index), self.stretches.of(index)
        if bool(held_out.texts):
            stretch.add(held_out, now)
            self._measure(index, sides, stretch, num_people, float(held_out.texts))
        elif seen_before and bool(shown.texts):
            stretch.add(shown, last.midway(now))
            self._measure(index, sides, stretch, num_people, math.inf)
        last.copy_(now)

    def _measure(self, index: int, sides: Sides, stretch: Stretch, num_people: float, num_texts: float) -> None:
        """Explain the scores, and take over the best explanation's rates, normals and noise words."""
        measured = self.measured.of(index)
        total, error = stretch.noise_rate(num_people, num_texts, sides.noise_max)
        measured.total.fill_(total)
        early = bool(measured.trials < _TRIALS)
        best = _explanation(stretch, total, 1 / num_people + 1 / num_texts, sides, early=early)
        measured.trials.add_(best.wrong is not None)
        measured.word_rate.fill_(best.word_rate)
        measured.error.fill_(error)
        measured.text_rate.fill_(0.0 if best.wrong is None else best.wrong.rate)
        if best.wrong is not None:
            right = stretch.people_scores().normal(best.word_rate)
            # In float32, as they always were: a resumed loss must not differ.
            measured.right_mean.copy_(torch.tensor(right[0]))
            measured.right_spread.copy_(torch.tensor(right[1]))
            measured.wrong_mean.copy_(torch.tensor(best.wrong.mean))
            measured.wrong_spread.copy_(torch.tensor(best.wrong.spread))
        noise = self.text_model.noise_words(index) if total > 0 else None
        if noise is not None:
            measured.noise.copy_(noise)


def _explanation(stretch: Stretch, total: float, chance: float, sides: Sides, *, early: bool) -> Explanation:
    """The best explanation of the scores; ``chance`` is one over the numbers of texts that they come from."""
    if not (sides.texts and bool(stretch.group.scores.sum())):
        return Explanation(value=0.0, word_rate=total if sides.words else 0.0, wrong=None)
    scores, people = stretch.group.scores.cpu(), stretch.people_scores()
    explained = explanations(
        scores, people, total=total, chance=_CHANCE_PRICE * chance, words=sides.words, rate_max=sides.noise_max
    )
    # A model that learned the noise can't tell at first whether texts or words are wrong. Believing in wrong texts
    # for two looks shows it: if they are, they part from the others, and if not, not.
    trial = [e for e in explained if e.wrong is not None and e.word_rate == 0.0]
    if sides.words and early and trial:
        plain = fit(scores, [(1.0, *people.normal(0.0))])
        explained = trial if max(e.value for e in trial) > plain else explained
    return max(explained, key=lambda e: e.value)

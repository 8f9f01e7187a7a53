"""What a look shows: how the model agrees with people's texts and with a group's, and what was measured from that.

A look scores people's texts, and where there are any the group's held-out ones, with the model as it stands.
Agreement of a word is $q/(q + n)$, of a text its mean. Suffixes: G groups, V vocabulary, K bins, R slots of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from noise_control.rules._scores import BINS, PeopleScores, bin_of, shifted
from noise_control.rules._tables import Tables, saved
from noise_control.rules._text_model import ROWS, Words

#: What earlier stretches between two looks count, each against the next.
_STRETCH_DECAY = 0.5
#: How much likelier the model must find people's words than noise words before it can tell them apart.
_MIN_POWER = 0.1
#: The keys of checkpoints for what people's texts showed over stretches.
_PEOPLE_IN_STRETCHES = {"agreement": "human_agreement", "scores": "human_scores"}


@dataclass(frozen=True, kw_only=True)
class GroupLook(Tables):
    """Sums over a group's texts: agreement, its square, the number of texts, and a histogram of their scores."""

    agreement: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    squares: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    texts: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    scores: Float[Tensor, "*G K"] = field(metadata=saved("scores", BINS))

    def count_agreement(self, agreement_S: Float[Tensor, " S"], words: Words, counted_S: Float[Tensor, " S"]) -> None:
        """Add texts; ``counted_S`` is 0 for those that are left out."""
        group_S = words.group_S
        self.agreement.index_add_(0, group_S, agreement_S * counted_S)
        self.squares.index_add_(0, group_S, agreement_S**2 * counted_S)
        self.texts.index_add_(0, group_S, counted_S)

    def count_scores(self, score_S: Float[Tensor, " S"], words: Words, counted_S: Float[Tensor, " S"]) -> None:
        """Add texts' scores; ``counted_S`` as above."""
        self.scores.index_put_((words.group_S, bin_of(score_S)), counted_S, accumulate=True)


@dataclass(frozen=True, kw_only=True)
class PeopleLook(Tables):
    """People's texts as each group's words see them: sums over the texts, or means.

    ``noise`` is the agreement of noise words in the places of people's. The ``corrupted`` fields are of people's texts
    with the group's noise words in them, ``corrupted_rate`` the share of such words.
    """

    agreement: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    noise: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    squares: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    texts: Float[Tensor, "*G"] = field(metadata=saved("agreement"))
    score: Float[Tensor, "*G"] = field(metadata=saved("scores"))
    score_squares: Float[Tensor, "*G"] = field(metadata=saved("scores"))
    corrupted_score: Float[Tensor, "*G"] = field(metadata=saved("corrupted"))
    corrupted_squares: Float[Tensor, "*G"] = field(metadata=saved("corrupted"))
    corrupted_texts: Float[Tensor, "*G"] = field(metadata=saved("corrupted"))
    corrupted_rate: Float[Tensor, "*G"] = field(metadata=saved("corrupted"))

    def add(self, agreement_S: Float[Tensor, " S"], noise_S: Float[Tensor, " S"], score_S: Float[Tensor, " S"]) -> None:
        """Add people's texts to one group's row."""
        agreements = torch.stack((agreement_S, noise_S, agreement_S**2, torch.ones_like(agreement_S)), 1).sum(0)
        scores = torch.stack((score_S, score_S**2), 1).sum(0)
        columns = (self.agreement, self.noise, self.squares, self.texts, self.score, self.score_squares)
        for column, value in zip(columns, (*agreements, *scores), strict=True):
            column.add_(value)

    def add_corrupted(self, score_S: Float[Tensor, " S"], rate_G: Float[Tensor, " G"], words: Words) -> None:
        """Add people's texts with noise words in them, each to its group, at the groups' rates."""
        group_S = words.group_S
        self.corrupted_score.index_add_(0, group_S, score_S)
        self.corrupted_squares.index_add_(0, group_S, score_S**2)
        self.corrupted_texts.index_add_(0, group_S, torch.ones_like(score_S))
        self.corrupted_rate.index_add_(0, group_S, rate_G[group_S])

    def mean(self) -> PeopleLook:
        """Means over the texts of one group's row."""
        count, corrupted = float(self.texts), self.corrupted_texts
        score, squares, one = self.score / count, self.score_squares / count, torch.ones_like(self.score)
        # Not shown, since there is hardly any noise: then it does not matter how it would score.
        noisy = (score, squares, one, one)
        if bool(corrupted):
            sums = (self.corrupted_score, self.corrupted_squares, corrupted, self.corrupted_rate)
            noisy = tuple(total / corrupted for total in sums)  # type: ignore[assignment]
        return PeopleLook(
            agreement=self.agreement / count,
            noise=self.noise / count,
            squares=self.squares / count,
            texts=self.texts / count,
            score=score,
            score_squares=squares,
            corrupted_score=noisy[0],
            corrupted_squares=noisy[1],
            corrupted_texts=noisy[2],
            corrupted_rate=noisy[3],
        )

    def midway(self, later: PeopleLook) -> PeopleLook:
        """Halfway between these means and later ones."""
        return PeopleLook(**{name: (value + getattr(later, name)) / 2 for name, value in vars(self).items()})

    def recentred(self, by: float) -> PeopleLook:
        """These means, of scores less a constant."""

        def squares(score: Tensor, square: Tensor) -> Tensor:
            return square - 2 * by * score + by**2

        return PeopleLook(
            **{
                **vars(self),
                "score": self.score - by,
                "score_squares": squares(self.score, self.score_squares),
                "corrupted_score": self.corrupted_score - by,
                "corrupted_squares": squares(self.corrupted_score, self.corrupted_squares),
            }
        )


@dataclass(frozen=True, kw_only=True)
class PeopleSums(PeopleLook):
    """What one look at people's texts showed, and how often each text stood among them."""

    repeats: Float[Tensor, "*G R"] = field(metadata=saved("repeats", ROWS))


class Stretches:
    """Sums over the stretches between looks: what the group's texts showed, and what people's did meanwhile.

    Both are weighted by the number of the group's texts; scores are relative to people's mean score.
    """

    def __init__(self, groups: int, device: torch.device) -> None:
        self.group, self.people = GroupLook.zeros(groups, device), PeopleLook.zeros(groups, device)

    def of(self, index: int) -> Stretch:
        """One group's sums."""
        return Stretch(group=self.group.of(index), people=self.people.of(index))

    def state(self) -> dict[str, Tensor]:
        """What is saved."""
        return self.group.state("stretches") | self.people.state("stretches", _PEOPLE_IN_STRETCHES)

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self.group.load("stretches", state)
        self.people.load("stretches", state, _PEOPLE_IN_STRETCHES)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One group's sums over its stretches (views of :class:`Stretches`)."""

    group: GroupLook
    people: PeopleLook

    def add(self, group: GroupLook, people: PeopleLook) -> None:
        """Add a stretch, earlier ones counting half: the group's sums, and people's means meanwhile."""
        centre = float(people.score)
        weighted = {name: group.texts * value for name, value in vars(people.recentred(centre)).items()}
        moved = GroupLook(**{**vars(group), "scores": shifted(group.scores, -centre)})
        for total, part in ((self.group, moved), (self.people, PeopleLook(**weighted))):
            for table, value in zip(total.all(), part.all(), strict=True):
                table.copy_(_STRETCH_DECAY * table + value)

    def people_scores(self) -> PeopleScores:
        """Means of people's scores over the stretches."""
        people, texts = self.people, self.group.texts
        return PeopleScores(
            mean=float(people.score / texts),
            squares=float(people.score_squares / texts),
            corrupted_mean=float(people.corrupted_score / texts),
            corrupted_squares=float(people.corrupted_squares / texts),
            corrupted_rate=float(people.corrupted_rate / texts),
        )

    def noise_rate(self, num_people: float, num_texts: float, most: float) -> tuple[float, float]:
        r"""Share of noise of either kind by moments, $(h - s)/(h - \nu)$, and its standard error (theory, 4.2).

        ``num_people`` and ``num_texts`` are the numbers of texts that the error comes from; ``most`` bounds the rate.
        """
        texts = float(self.group.texts)
        if not texts:  # All of them stand too often.
            return 0.0, 0.0
        people = float(self.people.agreement) / texts
        noise = float(self.people.noise) / texts
        people_squares = float(self.people.squares) / texts
        group, group_squares = float(self.group.agreement) / texts, float(self.group.squares) / texts
        if people - noise < _MIN_POWER:
            return 0.0, 0.0
        variance = max(people_squares - people**2, 0.0) / num_people + max(group_squares - group**2, 0.0) / num_texts
        return min(max((people - group) / (people - noise), 0.0), most), math.sqrt(variance) / (people - noise)


@dataclass(frozen=True, kw_only=True)
class Measured(Tables):
    """What was measured of each group.

    ``noise`` are its noise words (shares). ``word_rate`` is the share of noise words in right texts, ``text_rate`` that
    of wrong texts, ``error`` the standard error of their sum, ``total`` the share of noise of either kind.

    ``centre`` is people's mean score now; the normals of right and wrong texts' scores are relative to it. ``trials``
    counts looks for which wrong texts were believed in. ``repeated_rate`` is the share of texts that stand too often,
    ``repeated`` the share of each of them that is too much.
    """

    noise: Float[Tensor, "*G V"] = field(metadata=saved("noise", "vocabulary"))
    word_rate: Float[Tensor, "*G"] = field(metadata=saved("word_rate"))
    text_rate: Float[Tensor, "*G"] = field(metadata=saved("text_rate"))
    error: Float[Tensor, "*G"] = field(metadata=saved("error"))
    centre: Float[Tensor, "*G"] = field(metadata=saved("centre"))
    right_mean: Float[Tensor, "*G"] = field(metadata=saved("right"))
    right_spread: Float[Tensor, "*G"] = field(metadata=saved("right"))
    wrong_mean: Float[Tensor, "*G"] = field(metadata=saved("wrong"))
    wrong_spread: Float[Tensor, "*G"] = field(metadata=saved("wrong"))
    trials: Float[Tensor, "*G"] = field(metadata=saved("trials"))
    repeated_rate: Float[Tensor, "*G"] = field(metadata=saved("repeated_rate"))
    repeated: Float[Tensor, "*G R"] = field(metadata=saved("repeated", ROWS))
    total: Float[Tensor, "*G"] = field(metadata=saved("total"))

    def wrong_texts(self) -> Float[Tensor, "*G"]:
        """Share of texts that are wrong or stand too often."""
        return 1 - (1 - self.text_rate) * (1 - self.repeated_rate)

    def noise_rates(self) -> Float[Tensor, "*G"]:
        r"""$1 - (1-\rho)(1-\epsilon)$: the share of words that are noise."""
        return 1 - (1 - self.word_rate) * (1 - self.wrong_texts())

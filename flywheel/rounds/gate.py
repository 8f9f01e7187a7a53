"""The gate: whether a candidate may take the champion's place.
A pure judgement of figures; the stage gathers them and acts on it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flywheel.core.config import Gate
from flywheel.core.types import Estimate
from flywheel.metrics import diversity, mean_estimate
from flywheel.metrics.paired import PairedTest, items_needed, level_of_look, paired_test, spread_at_most
from flywheel.rounds.measures import FactsBeside, Measured, Verdict, by_choices, by_facts, combined, leaning
from flywheel.rounds.qa_measure import AnswersBeside, by_questions

#: Fewer segments than this say nothing of how diversity varies.
_LEAST_SEGMENTS = 8
#: The spread of a clip's difference in word F1 where too few anchors tell (rounds of the playground had .07 to .14).
_USUAL_SPREAD = 0.15


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is known of a candidate beside the champion. ``after`` and ``before`` are its and the champion's scores on
    the anchors, ``groups`` which video each anchor is of, ``refiners`` who gave the anchors' texts. ``rejected`` is the
    share of clips that it could not write of, ``cost`` its tokens per text over the champion's; ``stale`` is what of
    its files is no longer what wrote its texts."""

    after: Sequence[float]
    before: Sequence[float]
    groups: Sequence[Hashable]
    refiners: frozenset[str] = frozenset()
    diversity: Estimate | None = None
    rejected: float = 0.0
    cost: float = 1.0
    stale: str = ""
    #: Videos with anchor clips that there are, corrected or not; None where that was not counted.
    possible: int | None = None
    #: Refiner -> why that one is not to be trusted; with any the gate can't tell.
    suspects: Mapping[str, str] = field(default_factory=dict)
    #: Blind choices against the champion's texts, the first of each video: 1 won, 0 lost, 1/2 neither; and whose.
    choices: Sequence[float] = ()
    choosers: frozenset[str] = frozenset()
    #: Facts of its texts beside the champion's; None where no measure needs them.
    facts: FactsBeside | None = None
    #: Questions answered from its texts beside the champion's; None where no measure needs them.
    answers: AnswersBeside | None = None
    #: Which of the candidates that were tested against this champion it is, from 1 on.
    number: int = 1


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """``reason`` is a line for people;
    ``missing`` is how many more anchors (videos with one, to be exact) the wished power asks for."""

    verdict: Verdict
    reason: str
    test: PairedTest | None
    level: float
    look: int
    needed: int
    missing: int
    #: Where ``gate.measures`` names others than token F1: which measure decided, and what each of them says.
    decided_by: str = ""
    measures: tuple[Measured, ...] = ()

    def record(self) -> dict[str, Any]:
        out = asdict(self)
        test = out.pop("test")
        if not self.measures:
            del out["decided_by"], out["measures"]
        return {**out, **({} if test is None else test)}


def judge(candidate: Candidate, settings: Gate, look: int, *, resamples: int = 2000) -> Judgement:
    """The verdict. ``look`` counts the looks at anchors' scores that this champion's place had, this one included.

    The level of each look is shared out evenly among the measures, so that the chance of error over all looks and
    measures is ``gate.alpha``.
    """
    by_overlap = _by_overlap(candidate, settings, look, resamples)
    if settings.measures == ("token_f1",):
        return by_overlap
    if (at_once := _at_once(candidate, settings) or _less_diverse(candidate, settings)) is not None:
        verdict, reason = at_once
        return replace(by_overlap, verdict=verdict, reason=reason)
    each = {
        "token_f1": _overlap_measured(by_overlap, candidate, settings),
        "preference": by_choices(candidate.choices, candidate.choosers, candidate.number, settings, candidate.possible),
    }
    facts = candidate.facts or FactsBeside()
    if "facts" in settings.measures:
        each["facts"] = by_facts(facts, candidate.refiners, settings, look, resamples)
    if "qa" in settings.measures:
        each["qa"] = by_questions(candidate.answers or AnswersBeside(), settings, look, resamples)
    measures = tuple(each[name] for name in settings.measures)
    verdict, decided_by, reason = combined(measures, settings.untested == "promote")
    # Whatever else rises: who says most must not be who is believed.
    invents = facts.invents(settings, resamples) if "facts" in each and each["facts"].is_measured else None
    if invents is not None and (invents[0] == "refused" or verdict == "promoted"):
        verdict, decided_by, reason = invents[0], "facts", f"{invents[1]}; else {verdict}: {reason}"
    return replace(by_overlap, verdict=verdict, reason=reason, decided_by=decided_by, measures=measures)


def _overlap_measured(judgement: Judgement, candidate: Candidate, settings: Gate) -> Measured:
    """What word overlap alone says."""
    is_measured = (
        judgement.test is not None
        and len(set(candidate.groups)) >= settings.min_anchors
        and len(candidate.refiners) >= settings.min_refiners
    )
    value = judgement.test.difference.value if judgement.test is not None else 0.0
    return Measured(
        name="token_f1",
        verdict=judgement.verdict if is_measured else "undecided",
        reason=judgement.reason,
        is_measured=is_measured,
        leans=leaning(value, settings.margin) if is_measured else 0,
        needed=judgement.needed,
        missing=judgement.missing,
    )


def _at_once(candidate: Candidate, settings: Gate) -> tuple[Verdict, str] | None:
    """What is decided whatever any measure says; None where nothing is."""
    if candidate.suspects:
        names = "; ".join(f"{name} {why}" for name, why in sorted(candidate.suspects.items()))
        return "undecided", f"the anchors can't be trusted: {names}"
    if candidate.stale:
        return "refused", f"its texts were written by other weights than lie there now ({candidate.stale})"
    if candidate.rejected > settings.max_reject_share:
        return (
            "refused",
            f"{candidate.rejected:.1%} of its texts were rejected, {settings.max_reject_share:.1%} are allowed "
            "(gate.max_reject_share)",
        )
    if candidate.cost > settings.max_cost_ratio:
        return (
            "refused",
            f"its texts cost {candidate.cost:.2f} times the champion's tokens, "
            f"{settings.max_cost_ratio:g} are allowed (gate.max_cost_ratio)",
        )
    return None


def _less_diverse(candidate: Candidate, settings: Gate) -> tuple[Verdict, str] | None:
    """The refusal of texts that surely are less diverse than is allowed; None of others."""
    v = candidate.diversity
    if v is None or v.n < _LEAST_SEGMENTS or v.low >= -settings.diversity_margin:
        return None
    return (
        "refused",
        f"its texts are less diverse: distinct-3 {v.value:+.1%} [{v.low:+.1%}, {v.high:+.1%}] "
        f"against the champion's, {-settings.diversity_margin:.0%} is allowed",
    )


def _by_overlap(candidate: Candidate, settings: Gate, look: int, resamples: int) -> Judgement:
    """The verdict by the word overlap with corrected anchors alone."""
    level = level_of_look(settings.alpha, look) / len(settings.measures)
    count = len(set(candidate.groups))
    margin = settings.margin if settings.require == "not_worse" else None
    test = (
        paired_test(candidate.after, candidate.before, candidate.groups, margin=margin, resamples=resamples)
        if count
        else None
    )
    known = test is not None and count >= settings.min_anchors and test.spread > 0
    spread = spread_at_most(test.spread, count) if test is not None and known else _USUAL_SPREAD
    needed = max(settings.min_anchors, items_needed(settings.effect, spread, level, settings.power))
    missing = max(0, needed - count)

    def said(verdict: Verdict, reason: str) -> Judgement:
        return Judgement(
            verdict=verdict, reason=reason, test=test, level=level, look=look, needed=needed, missing=missing
        )

    if (at_once := _at_once(candidate, settings)) is not None:
        return said(*at_once)
    if len(candidate.refiners) < settings.min_refiners and count:
        who = ", ".join(sorted(candidate.refiners)) or "nobody"
        return said(
            "undecided",
            f"the anchors' texts come from {who} alone, {settings.min_refiners} reviewers are asked for "
            "(gate.min_refiners)",
        )
    more = f"{needed} anchors find a gain of {settings.effect:g} with power {settings.power:g}"
    if test is None or count < settings.min_anchors:
        verdict: Verdict = "promoted" if settings.untested == "promote" else "undecided"
        return said(
            verdict,
            f"can't tell yet: {count} of at least {settings.min_anchors} anchor videos "
            f"have a corrected caption ({more})"
            + _never(candidate.possible, settings)
            + (", promoted without a test (gate.untested)" if verdict == "promoted" else ""),
        )
    d = test.difference
    figures = (
        f"on {count} anchors: token F1 {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], "
        f"p(better) {test.p_better:.2g}, of at most {level:.2g} in test {look}"
    )
    if (less := _less_diverse(candidate, settings)) is not None:
        return said(*less)
    if test.p_better <= level and d.low > 0:
        return said("promoted", f"better {figures}")
    if settings.require == "not_worse" and not missing and test.p_not_worse <= level and d.low >= -settings.margin:
        return said("promoted", f"not worse than {settings.margin:g} {figures}")
    if test.p_worse <= settings.alpha / 2 and d.high < 0:
        return said("refused", f"worse {figures}")
    if missing:
        return said("undecided", f"not shown to be better {figures}; {missing} more anchors are needed: {more}")
    return said("refused", f"not shown to be better {figures}")


def _never(possible: int | None, settings: Gate) -> str:
    """What to say where the corpus has too few anchors for any test of word overlap."""
    if possible is None or possible >= settings.min_anchors:
        return ""
    so = "no round can ever pass" if settings.measures == ("token_f1",) else "word overlap can never decide"
    return f"; the corpus has only {possible}, so {so} ('flywheel status' says how many videos to add)"


def diversity_change(
    after: Sequence[str], before: Sequence[str], *, segment_tokens: int, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """distinct-3 of the candidate's texts of the same clips relative to the champion's, minus one, with its interval
    (segments of a fixed number of words, as :func:`flywheel.metrics.diversity` has them; their means are compared,
    since segments of two models hold other clips)."""
    both = [
        diversity(texts, segment_tokens=segment_tokens, resamples=resamples, seed=seed)["distinct_3"]
        for texts in (after, before)
    ]
    if not all(e.n for e in both) or not both[1].value:
        return mean_estimate([])
    ratio = both[0].value / both[1].value
    # Half-widths of independent means add up in squares, relative to their means.
    halves = [(e.high - e.low) / 2 / e.value if e.value else 0.0 for e in both]
    error = ratio * math.hypot(*halves)
    return Estimate(value=ratio - 1, low=ratio - 1 - error, high=ratio - 1 + error, n=min(e.n for e in both))

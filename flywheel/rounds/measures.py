"""What several measures say of a candidate, the most trusted first, and what that comes to."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

from flywheel.core.config import Gate
from flywheel.metrics.facts import ClipFacts
from flywheel.metrics.paired import PairedTest, items_needed, level_of_look, paired_test, spread_at_most
from flywheel.metrics.preference import WinRate, choices_needed

Verdict = Literal["promoted", "refused", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one measure alone says of a candidate.

    ``is_measured`` is false where there is too little to say anything of it; ``leans`` is 1 where what there is says
    better by more than the margin, surely or not, and -1 where it says worse. ``needed`` and ``missing`` are anchors,
    or choices.
    """

    name: str
    verdict: Verdict
    reason: str
    is_measured: bool
    leans: int
    needed: int
    missing: int


def combined(measures: Sequence[Measured], untested_passes: bool) -> tuple[Verdict, str, str]:
    """Verdict, name of the measure that decided (empty for none) and reason.

    The first measure that can tell decides. One that is trusted less promotes nothing that one before it leans against,
    and refuses nothing that one before it leans to: then it can't be told until the more trusted one can.
    """
    for place, measure in enumerate(measures):
        if measure.verdict == "undecided":
            continue
        other_way = -1 if measure.verdict == "promoted" else 1
        doubt = next((m for m in measures[:place] if m.leans == other_way), None)
        if doubt is not None:
            alone = f"by {measure.name} alone it would be {measure.verdict}: {measure.reason}"
            return "undecided", doubt.name, f"{doubt.reason}; {alone}"
        return measure.verdict, measure.name, _with_others(f"{measure.reason} (by {measure.name})", measure, measures)
    if untested_passes and not any(m.is_measured for m in measures):
        return "promoted", "", "promoted without a test (gate.untested): " + "; ".join(m.reason for m in measures)
    return "undecided", "", "; ".join(f"{m.name}: {m.reason}" for m in measures)


def leaning(gain: float, margin: float) -> int:
    """1 for a gain beyond the margin, -1 for such a loss, 0 between."""
    return (gain > margin) - (gain < -margin)


def _with_others(reason: str, decided: Measured, measures: Sequence[Measured]) -> str:
    others = [f"{m.name}{'' if m.is_measured else ' not measured'}: {m.reason}" for m in measures if m is not decided]
    return "; ".join([reason, *others])


def by_choices(
    choices: Sequence[float], choosers: Set[str], number: int, settings: Gate, possible: int | None = None
) -> Measured:
    """What people's blind choices say: 1 where the candidate's text won, 0 where it lost, 1/2 for neither.

    ``possible`` is how many anchor videos there are, each of which gives one choice; None where nobody counted.

    Its evidence may be looked at at any time, so a candidate has one level, by its ``number`` among those that were
    tested against this champion: alpha / (number (number + 1)), shared out among the measures.
    """
    level = level_of_look(settings.alpha, number) / len(settings.measures)
    needed = choices_needed(settings.win_rate, level, settings.power).needed
    rate = WinRate(choices)
    missing = max(0, needed - rate.count)
    more = f"{needed} are needed to find a win rate of {settings.win_rate:g} with power {settings.power:g}"
    if possible is not None and possible < needed:
        more += f", and one counts of each anchor video, of which the corpus has only {possible}"

    def said(verdict: Verdict, reason: str, *, is_measured: bool = True) -> Measured:
        return Measured(
            name="preference",
            verdict=verdict,
            reason=reason,
            is_measured=is_measured,
            leans=leaning(rate.value - 0.5, settings.win_margin) if is_measured else 0,
            needed=needed,
            missing=missing,
        )

    if not rate.count:
        return said("undecided", f"no blind choices yet, {more} (review.compare)", is_measured=False)
    if len(choosers) < settings.min_refiners:
        who = ", ".join(sorted(choosers))
        reason = (
            f"the choices come from {who} alone, {settings.min_refiners} refiners are asked for (gate.min_refiners)"
        )
        return said("undecided", reason, is_measured=False)
    interval = rate.interval(settings.alpha)
    won = f"{interval.value:.0%} of blind choices [{interval.low:.0%}, {interval.high:.0%}]"
    figures = f"on {rate.count} videos it won {won}, evidence {rate.e_value:.3g} of {1 / level:.3g}"
    least = 0.5 - settings.win_margin
    if rate.e_value >= 1 / level:
        return said("promoted", f"people prefer it: {figures}")
    if settings.require == "not_worse" and rate.interval(2 * level).low >= least:
        return said("promoted", f"not chosen less than {least:.0%} of the time: {figures}")
    if interval.high < least:
        return said("refused", f"people prefer the champion's texts: {figures}")
    if missing:
        return said("undecided", f"not shown to be preferred: {figures}; {missing} more choices, {more}")
    return said("refused", f"not shown to be preferred: {figures}")


#: The spread of a video's difference in fact F1 where too few anchors tell.
_USUAL_SPREAD = 0.2
#: The most of both models' clips that a judge may leave untold: what is left of fewer need not be like the whole.
_MOST_UNSURE = 0.2


@dataclass(frozen=True, kw_only=True)
class FactsBeside:
    """Facts of a candidate's texts (``after``) beside the champion's (``before``), clip by clip.

    Clips of which a judge can't tell one of both are counted in ``unsure``, with the first one's reason in ``why``.
    """

    after: Sequence[ClipFacts] = ()
    before: Sequence[ClipFacts] = ()
    unsure: int = 0
    why: str = ""

    @classmethod
    def of(cls, after: Sequence[ClipFacts], before: Sequence[ClipFacts]) -> FactsBeside:
        """The clips that both wrote of."""
        older = {clip.clip_id: clip for clip in before}
        pairs = [(clip, older[clip.clip_id]) for clip in after if clip.clip_id in older]
        told = [(a, b) for a, b in pairs if not (a.why or b.why)]
        whys = [a.why or b.why for a, b in pairs if a.why or b.why]
        return cls(
            after=[a for a, _ in told], before=[b for _, b in told], unsure=len(whys), why=whys[0] if whys else ""
        )

    @property
    def unsure_share(self) -> float:
        """Share of the clips of which the judge can't tell one of both; 0 without any."""
        return self.unsure / (self.unsure + len(self.after)) if self.unsure else 0.0

    def f1(self, resamples: int, margin: float | None = None) -> PairedTest:
        """The test of what both state, in fact F1, by video; ``margin`` as in :func:`paired_test`."""
        after, before = ([clip.f1 for clip in clips] for clips in (self.after, self.before))
        return paired_test(after, before, [clip.video for clip in self.after], margin=margin, resamples=resamples)

    def precision(self, resamples: int) -> PairedTest | None:
        """The test of how much of what both state is true, by video; None where no clip has both."""
        known = [
            (a.precision, b.precision, a.video)
            for a, b in zip(self.after, self.before, strict=True)
            if a.precision is not None and b.precision is not None
        ]
        if not known:
            return None
        after, before, videos = zip(*known, strict=True)
        return paired_test(after, before, videos, resamples=resamples)

    def invents(self, settings: Gate, resamples: int) -> tuple[Verdict, str] | None:
        """What to say of a candidate that invents more than ``gate.fact_margin`` allows; None of one that does not.

        Refused where that is sure (95 %), else undecided.
        """
        test = self.precision(resamples)
        if test is None or test.difference.value >= -settings.fact_margin:
            return None
        d = test.difference
        sure = d.high < -settings.fact_margin
        return (
            "refused" if sure else "undecided",
            f"it {'invents' if sure else 'may invent'} more: fact precision {d.value:+.3f} [{d.low:+.3f}, "
            f"{d.high:+.3f}] on {d.n} videos, a loss of {settings.fact_margin:g} is allowed (gate.fact_margin)",
        )


def by_facts(beside: FactsBeside, refiners: Set[str], settings: Gate, look: int, resamples: int) -> Measured:
    """What the facts say that both models' texts share with people's."""
    level = level_of_look(settings.alpha, look) / len(settings.measures)
    count = len({clip.video for clip in beside.after})
    unsure = f"; of {beside.unsure} clips the judge can't tell ({beside.why})" if beside.unsure else ""

    def said(verdict: Verdict, reason: str, leans: int = 0) -> Measured:
        return Measured(
            name="facts",
            verdict=verdict,
            reason=reason + unsure,
            is_measured=is_measured,
            leans=leans,
            needed=needed,
            missing=max(0, needed - count),
        )

    is_told = beside.unsure_share <= _MOST_UNSURE
    is_measured = is_told and count >= settings.min_anchors and len(refiners) >= settings.min_refiners
    needed = max(settings.min_anchors, items_needed(settings.effect, _USUAL_SPREAD, level, settings.power))
    if not is_told:
        share = f"{beside.unsure_share:.0%} of the clips are untold, at most {_MOST_UNSURE:.0%} may be"
        return said("undecided", f"can't tell: {share}")
    if not is_measured:
        return said(
            "undecided",
            f"can't tell yet: facts of {count} of at least {settings.min_anchors} anchor videos, of which "
            f"{len(refiners)} of at least {settings.min_refiners} reviewers wrote",
        )
    test = beside.f1(resamples, settings.fact_margin if settings.require == "not_worse" else None)
    d = test.difference
    if test.spread > 0:
        spread = spread_at_most(test.spread, count)
        needed = max(settings.min_anchors, items_needed(settings.effect, spread, level, settings.power))
    figures = (
        f"on {count} videos: fact F1 {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}], "
        f"p(better) {test.p_better:.2g}, of at most {level:.2g} in test {look}"
    )
    leans = leaning(d.value, settings.fact_margin)
    if test.p_better <= level and d.low > 0:
        return said("promoted", f"states more of what is true {figures}", leans)
    not_worse = test.p_not_worse <= level and d.low >= -settings.fact_margin
    if settings.require == "not_worse" and count >= needed and not_worse:
        return said("promoted", f"states no less than {settings.fact_margin:g} of what is true {figures}", leans)
    if test.p_worse <= settings.alpha / 2 and d.high < 0:
        return said("refused", f"states less of what is true {figures}", leans)
    if count < needed:
        more = f"{needed - count} more anchors are needed: {needed} to find a gain of {settings.effect:g}"
        return said("undecided", f"not shown to state more of what is true {figures}; {more}", leans)
    return said("refused", f"not shown to state more of what is true {figures}", leans)

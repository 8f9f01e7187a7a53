"""Rules on measured columns. Limits were chosen on the playground's seed 83000 (experiments/repair)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flywheel.curation.repair.plan import Plan, Step, plan
from flywheel.curation.repair.planners._planner import Case, Tried

#: Noise is less than this below what sounds; from this flatness on it is white.
_NOISY_DB, _WHITE = 11.0, 0.5
#: A sound is too soft where its noise and its level both lie below what is usual, the noise by at least this; ...
_SOFT_DB, _MOST_DB = 8.5, 20.0
#: ... below this it is no noise of a recording but silence.
_NO_FLOOR_DB = -95.0
#: Correlations at the best offset, or speed, from which on they are believed, and by how much they must be better.
_LEAST, _MUCH_SHIFTED, _MUCH_SPED = 0.5, 0.38, 0.12
#: Where another offset fits so well beside the best one, as a share of it, neither is believed.
_AMBIGUOUS = 0.85
#: How much better another speed must fit than another offset: it has more to choose from.
_SPED_OVER_SHIFTED = 0.02
#: Filters in the order in which they are tried, by what the noise is.
_FILTERS = {
    True: ("spectral_gate", "wiener", "spectral_subtraction", "wavelet"),
    False: ("wiener", "spectral_gate", "spectral_subtraction"),
}


def plan_next(case: Case, tried: Sequence[Tried]) -> Plan:
    """The first plan that the rules give and that was not tried yet; none where nothing looks wrong."""
    done = {attempt.plan.key() for attempt in tried}
    for steps, reason in _plans(case):
        made = plan(steps, reason)
        if made.key() not in done:
            return made
    return Plan(reason="nothing looks wrong" if not tried else "nothing else to try")


def _plans(case: Case) -> Iterator[tuple[list[Step], str]]:
    """What to try, best first: a filter with an edit of time or level, then other filters, then either alone."""
    filters, edits = list(_filters(case)), list(_edits(case))
    if filters and edits:
        yield from (([a, b], f"{why}; {because}") for a, why in filters for b, because in edits)
    yield from (([step], why) for step, why in (*filters, *edits))


def _filters(case: Case) -> Iterator[tuple[Step, str]]:
    of = case.measures
    below_db = of.level_db - of.floor_db
    if below_db < _NOISY_DB:
        white = of.flatness >= _WHITE
        kind = "white noise" if white else "a hum"
        for name in _FILTERS[white]:
            yield Step(action=name), f"{kind} {below_db:.0f} dB below what sounds"


def _edits(case: Case) -> Iterator[tuple[Step, str]]:
    of, usual = case.measures, case.norms
    if of.gaps:
        yield Step(action="fill", parameters={"longest_s": max(0.02, min(2.0, 1.2 * of.gap_s))}), f"{of.gaps} gaps"
        return
    yield from _in_time(case)
    soft_db = usual.floor_db - of.floor_db
    if soft_db > _SOFT_DB and of.floor_db > _NO_FLOOR_DB and of.level_db < usual.level_db:
        db = round(float(np.clip(usual.too_soft_db(of), 0.0, _MOST_DB)), 1)
        yield Step(action="gain", parameters={"db": db}), f"{db:.0f} dB too soft"


def _in_time(case: Case) -> Iterator[tuple[Step, str]]:
    """A shift or another speed where one fits much better, the better first."""
    fit = case.measures.fit
    found = []
    if fit.shifted >= _LEAST and fit.shifted - fit.plain > _MUCH_SHIFTED and fit.rival < _AMBIGUOUS:
        late = f"{abs(fit.offset_s):.2f} s {'late' if fit.offset_s > 0 else 'early'}"
        found.append((fit.shifted, Step(action="shift", parameters={"seconds": -fit.offset_s}), late))
    if fit.sped >= _LEAST and fit.sped - fit.plain > _MUCH_SPED and fit.sped > fit.shifted + _SPED_OVER_SHIFTED:
        fast = f"{abs(1 / fit.rate - 1):.1%} {'fast' if fit.rate < 1 else 'slow'}"
        found.append((fit.sped, Step(action="speed", parameters={"rate": fit.rate}), fast))
    for _, step, why in sorted(found, key=lambda item: -item[0]):
        yield step, why

"""Questions answered from captions alone, as a measure of the gate: a caption that leaves out or makes up costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.core.config import Gate
from flywheel.core.types import Estimate
from flywheel.metrics.intervals import clustered_estimate
from flywheel.metrics.paired import PairedTest, items_needed, level_of_look, paired_test, spread_at_most
from flywheel.rounds.measures import Measured, Verdict, leaning

#: The spread of a video's difference in accuracy where too few tell, and the most of the clips that may be untold.
_USUAL_SPREAD, _MOST_UNTOLD = 0.25, 0.2


@dataclass(frozen=True, kw_only=True)
class ClipAnswers:
    """What a reader answered of a clip's questions from its caption: numbers ``asked``, ``right``, ``unanswered``.

    ``video`` is what its clips have in common; ``why`` says why nothing can be told, and is empty where it can.
    """

    clip_id: str
    video: str
    asked: int = 0
    right: int = 0
    unanswered: int = 0
    why: str = ""

    @property
    def accuracy(self) -> float:
        """The share that was answered rightly; what was not answered is not right."""
        return self.right / self.asked if self.asked else 0.0


@dataclass(frozen=True, kw_only=True)
class AnswersBeside:
    """Answers from a candidate's captions (``after``) beside those from the champion's, of the clips that both have.

    Clips of which one can't be told are counted in ``untold``, with the first one's reason in ``why``.
    """

    after: Sequence[ClipAnswers] = ()
    before: Sequence[ClipAnswers] = ()
    untold: int = 0
    why: str = ""

    @classmethod
    def of(cls, after: Sequence[ClipAnswers], before: Sequence[ClipAnswers]) -> AnswersBeside:
        """The clips that both were asked about."""
        older = {clip.clip_id: clip for clip in before}
        pairs = [(clip, older[clip.clip_id]) for clip in after if clip.clip_id in older]
        told = [(a, b) for a, b in pairs if not (a.why or b.why)]
        whys = [a.why or b.why for a, b in pairs if a.why or b.why]
        return cls(
            after=[a for a, _ in told], before=[b for _, b in told], untold=len(whys), why=whys[0] if whys else ""
        )

    @property
    def videos(self) -> int:
        """How many videos there are answers of."""
        return len({clip.video for clip in self.after})

    def test(self, resamples: int, margin: float | None = None) -> PairedTest:
        """The test of the accuracy, by video: each video counts alike, however many questions are about it."""
        after, before = ([clip.accuracy for clip in clips] for clips in (self.after, self.before))
        return paired_test(after, before, [clip.video for clip in self.after], margin=margin, resamples=resamples)


def answer_figures(clips: Sequence[ClipAnswers], resamples: int) -> dict[str, Estimate]:
    """``qa_accuracy`` and ``qa_unanswered``, shares of all questions, with intervals over videos; empty without any."""
    told = [clip for clip in clips if not clip.why]
    if not told:
        return {}
    counts = {"qa_accuracy": [clip.right for clip in told], "qa_unanswered": [clip.unanswered for clip in told]}
    # A value for each question: a clip with many counts for more, as it does in the shares' words.
    videos = np.repeat([clip.video for clip in told], [clip.asked for clip in told]).tolist()
    return {
        name: clustered_estimate(
            np.concatenate([np.arange(clip.asked) < of for clip, of in zip(told, counted, strict=True)]).astype(float),
            videos,
            resamples=resamples,
        )
        for name, counted in counts.items()
    }


def by_questions(beside: AnswersBeside, settings: Gate, look: int, resamples: int) -> Measured:
    """What the questions say that can be answered from both models' captions."""
    level = level_of_look(settings.alpha, look) / len(settings.measures)
    count, needed = beside.videos, items_needed(settings.effect, _USUAL_SPREAD, level, settings.power)
    untold = f"; of {beside.untold} clips it can't be told ({beside.why})" if beside.untold else ""
    is_measured = count >= settings.min_anchors and beside.untold <= _MOST_UNTOLD * (beside.untold + len(beside.after))

    def said(verdict: Verdict, reason: str, leans: int = 0) -> Measured:
        return Measured(
            name="qa",
            verdict=verdict,
            reason=reason + untold,
            is_measured=is_measured,
            leans=leans,
            needed=needed,
            missing=max(0, needed - count),
        )

    if not is_measured:
        return said("undecided", f"can't tell yet: answers of {count} of at least {settings.min_anchors} anchor videos")
    test = beside.test(resamples, settings.fact_margin if settings.require == "not_worse" else None)
    d = test.difference
    if test.spread > 0:
        needed = items_needed(settings.effect, spread_at_most(test.spread, count), level, settings.power)
    needed = max(settings.min_anchors, needed)
    figures = (
        f"on {count} videos: {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] of a video's questions in the mean, "
        f"p(better) {test.p_better:.2g}, of at most {level:.2g} in test {look}"
    )
    leans = leaning(d.value, settings.fact_margin)
    if test.p_better <= level and d.low > 0:
        return said("promoted", f"more can be answered from its captions {figures}", leans)
    not_worse = test.p_not_worse <= level and d.low >= -settings.fact_margin
    if settings.require == "not_worse" and count >= needed and not_worse:
        return said("promoted", f"no less than {settings.fact_margin:g} can be answered {figures}", leans)
    if test.p_worse <= settings.alpha / 2 and d.high < 0:
        return said("refused", f"less can be answered from its captions {figures}", leans)
    if count < needed:
        more = f"{needed - count} more anchor videos with questions are needed: {needed} to find {settings.effect:g}"
        return said("undecided", f"not shown that more can be answered {figures}; {more}", leans)
    return said("refused", f"not shown that more can be answered {figures}", leans)

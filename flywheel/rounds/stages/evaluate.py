"""M_round's texts on the test split and on corrected anchors, and their figures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from annotators.tasks import AskResult
from flywheel.core.progress import say
from flywheel.core.types import MEASURE, Clip, Estimate
from flywheel.metrics import diversity, mean_estimate, quantity, reference_quality
from flywheel.models.score import mean_logprobs
from flywheel.rounds.context import RoundContext
from flywheel.rounds.facts import measure_facts
from flywheel.rounds.facts_view import fact_figures
from flywheel.rounds.figures import extra
from flywheel.rounds.qa import clip_answers, measure_answers, questions_record
from flywheel.rounds.qa_measure import answer_figures
from flywheel.rounds.stages._stage import Stage
from flywheel.rounds.watch import collapse_figures_of


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """Figures of the texts, by group and name;
    a value with an interval is a mapping (``value``, ``low``, ``high``, ``n``).

    ``oracle`` is filled where the truth is known (the playground), ``extra`` are other packages' figures, ``proof`` is
    that of M_round's adapter where texts were written now, ``hearing`` that it hears, where it is given sound.
    ``questions`` says how many were ``asked`` of captions, and by reason how many were not.
    """

    quantity: dict[str, float] = field(default_factory=dict)
    diversity: dict[str, dict[str, float]] = field(default_factory=dict)
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    watch: dict[str, dict[str, float]] = field(default_factory=dict)
    oracle: dict[str, dict[str, float]] = field(default_factory=dict)
    extra: dict[str, dict[str, float]] = field(default_factory=dict)
    proof: dict[str, Any] = field(default_factory=dict)
    hearing: dict[str, Any] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        optional = ("oracle", "extra", "proof", "hearing", "questions")
        return {name: value for name, value in asdict(self).items() if value or name not in optional}


def run(context: RoundContext, round: int) -> EvaluateResult:
    """Write the texts, and measure them."""
    anchors = context.texts().anchors()
    asked = write(context, round)
    # A frame and not a dictionary: a million clips have hundreds of thousands of these texts.
    measured = context.workspace.texts(round, MEASURE, "clip_id", "text")
    clips_written = context.split("test").with_ids(measured["clip_id"])
    test = clips_written.columns("id", "start_s", "end_s")
    texts = test.join(measured, left_on="id", right_on="clip_id", how="left", maintain_order="left")["text"].to_list()
    written = _texts_of(measured, [*anchors, *test["id"][: context.config.evaluate.agreement_pairs]])
    del measured
    amounts, varied = trinity(context, texts, (test["end_s"] - test["start_s"]).to_list())
    quality = _anchor_quality(context, written, anchors)
    measure_facts(context, round)
    quality |= fact_figures(context, round)
    measure_answers(context, round)
    quality |= answer_figures(clip_answers(context, round), context.config.evaluate.resamples)
    if context.config.evaluate.agreement_pairs and texts:
        pairs = [context.clips[c] for c in test["id"][: context.config.evaluate.agreement_pairs]]
        if (margin := _video_text_margin(context, pairs, written)) is not None:
            quality["agreement"] = margin
    return EvaluateResult(
        quantity=amounts,
        diversity={name: asdict(value) for name, value in varied.items()},
        quality={name: asdict(value) for name, value in quality.items()},
        watch={name: asdict(v) for name, v in collapse_figures_of(context, context.texts(), round).items()},
        extra={name: asdict(value) for name, value in extra(texts, clips_written).items()},
        proof=asked.proof or {},
        hearing=asked.hearing or {},
        questions=questions_record(context),
    )


def _texts_of(measured: pl.DataFrame, clip_ids: Sequence[str]) -> dict[str, str]:
    """The texts of these clips, by clip id."""
    wanted = pl.Series(clip_ids, dtype=pl.String)
    return dict(measured.filter(pl.col("clip_id").is_in(wanted.implode())).iter_rows())


def write(context: RoundContext, round: int, *, again: bool = False) -> AskResult:
    """Write the texts; with ``again`` those alone whose clips were rejected."""
    anchors = (context.clips[clip_id] for clip_id in sorted(context.texts().anchors()))
    clips = itertools.chain(context.split("test"), anchors)
    return context.ask(clips, by=round, round=round, purpose=MEASURE, again=again)


def trinity(
    context: RoundContext, texts: Sequence[str], durations_s: Sequence[float]
) -> tuple[dict[str, float], dict[str, Estimate]]:
    """Quantity and diversity of texts of clips of these durations."""
    settings = context.config.evaluate
    varied = diversity(
        texts, segment_tokens=settings.diversity_tokens, resamples=settings.resamples, seed=settings.seed
    )
    return quantity(texts, durations_s), varied


def _anchor_quality(
    context: RoundContext, written: Mapping[str, str], anchors: Mapping[str, str]
) -> dict[str, Estimate]:
    """Distances of the texts from people's, on the anchors; empty without any."""
    if not anchors:
        return {}
    names = sorted(anchors)
    measured = reference_quality(
        [written.get(c, "") for c in names],
        [anchors[c] for c in names],
        resamples=context.config.evaluate.resamples,
    )
    return {f"anchor_{name}": value for name, value in measured.items()}


def _video_text_margin(context: RoundContext, clips: Sequence[Clip], written: Mapping[str, str]) -> Estimate | None:
    """Video-text margin: how much likelier a text is with its own clip than with another's, nats per token.

    Mean log-likelihood under the base model, without hints; None where no clip can be read.
    """
    vlm = context.load(context.base)
    builder = context.builder(vlm.processor)
    inputs = list(context.readable(clips, builder))
    if len(inputs) < len(clips):
        say(f"evaluate: agreement is measured without {len(clips) - len(inputs)} clips that can't be read")
    if not inputs:
        return None
    read = {clip.key for clip in inputs}
    clips = [clip for clip in clips if clip.id in read]
    prompts = [context.prompt.render(context.evidence(c).without("transcript", "previous")) for c in clips]
    texts = [written[c.id] for c in clips]
    matched = mean_logprobs(vlm, builder, inputs, prompts, texts)
    shifted = mean_logprobs(vlm, builder, [*inputs[1:], inputs[0]], [*prompts[1:], prompts[0]], texts)
    return mean_estimate(matched - shifted, resamples=context.config.evaluate.resamples)


STAGE = Stage(run=run, result=EvaluateResult)

"""Describers and judge, asked where curation is in doubt: one engine at a time, as a round's texts are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from annotators.asking import costs_of
from annotators.tasks import Asking
from flywheel.core.types import CRITERIA, LEARN, REPEATED, SHUFFLED, SWAPPED, Purpose
from flywheel.curation.agreement import order_agreement
from flywheel.curation.describe import describe
from flywheel.curation.doubt import Plan, plan
from flywheel.curation.judge import judge, shown_texts
from flywheel.curation.judged import Judged
from flywheel.curation.unlike import most_unlike
from flywheel.models.prompt import Prompt
from flywheel.rounds.context import RoundContext
from flywheel.store.clip_index import ClipView

#: Purposes of judgements that are no clip's own.
_CONTROLS: tuple[Purpose, ...] = (SHUFFLED, SWAPPED, REPEATED)


def judge_in_doubt(
    context: RoundContext, round: int, limit: int | None = None, *, dry_run: bool = False
) -> Judged | None:
    """Have the clips in doubt described and judged, at most ``limit``; None where no judge is to be asked.

    What is on record is not asked for again, and with ``dry_run`` nobody is asked; the caller holds the lock. Raises
    ProofFailed, before a text is kept, where the model that is to hear does not.
    """
    if not context.curation_prompts:
        return None
    workspace, settings = context.workspace, context.config.curate
    planned = plan(workspace, context.to_curate(), settings, limit)
    again = list(planned.others)[: settings.repeats]
    hearing = None if dry_run else _asked(context, planned, again, round)
    scored = workspace.judgements(words=False).filter(pl.col("clip_id").is_in(planned.asked.implode()))
    return Judged(
        audible=planned.audible,
        asked=len(planned.asked),
        calibrating=len(planned.others),
        again=len(again),
        to_ask=len(planned.asked) - scored.height,
        unscored=scored[CRITERIA[0]].null_count(),
        doubt=planned.doubt,
        costs=_costs(context, round),
        hearing=hearing,
        order=order_agreement(workspace, round),
        repeat=order_agreement(workspace, round, purpose=REPEATED),
    )


def _asked(context: RoundContext, planned: Plan, again: list[str], round: int) -> Mapping[str, Any] | None:
    """Ask ears, eyes and judge about the clips; returns the proof of hearing, where ears had to give one."""
    seen, heard, judging = context.curation_prompts
    clips = context.to_curate().of("train", "test", "anchor").with_ids(planned.asked).by_id()
    # Ears first: where they are deaf, nothing was spent on eyes.
    hearing = _describe(context, clips, heard, round)
    _describe(context, clips, seen, round)
    twins = _twins(context, planned, round)
    context.workspace.add_twins(twins)
    _judge(context, clips, judging, twins, again, round)
    return hearing


def _twins(context: RoundContext, planned: Plan, round: int) -> dict[str, str]:
    """Whose sound each clip that calibrates is judged with: on record, or chosen once all of them are described."""
    known = context.workspace.twins()
    twins = {clip_id: known[clip_id] for clip_id in planned.others if clip_id in known}
    fresh = {clip_id: some for clip_id, some in planned.others.items() if clip_id not in twins}
    if set(planned.others) <= set(planned.asked):
        texts = shown_texts(context.workspace, list(planned.others), round, "seen")
        twins |= most_unlike(fresh, texts, known.values())
    return twins


def _describe(context: RoundContext, clips: ClipView, prompt: Prompt, round: int) -> Mapping[str, Any] | None:
    """Have the clips described by the prompt; returns the proof that the model hears, where it had to give one."""
    context.sounds(anew=True)
    with context.writer(prompt, round) as writer:
        result = describe(
            context.workspace,
            clips,
            prompt,
            writer,
            media=context.reader,
            key_parts=lambda clip: context.key_parts(clip, prompt),
            round=round,
            asking=Asking.of(context.config.annotate, prompt),
        )
    return result.hearing


def _judge(
    context: RoundContext,
    clips: ClipView,
    prompt: Prompt,
    twins: Mapping[str, str],
    again: list[str],
    round: int,
) -> None:
    """Have the clips judged, and those that calibrate in the other ways too, by one engine."""
    some = {LEARN: clips, SHUFFLED: clips.with_ids(twins), SWAPPED: clips.with_ids(again)}
    asking = Asking.of(context.config.annotate, prompt)
    with context.writer(prompt, round) as writer:
        for purpose in (LEARN, *_CONTROLS):
            judge(
                context.workspace,
                some.get(purpose, some[SWAPPED]),
                prompt,
                writer,
                round=round,
                asking=asking,
                purpose=purpose,
                others=twins,
            )


def _costs(context: RoundContext, round: int) -> dict[str, dict[str, float]]:
    """What the round's descriptions and judgements cost, by kind and, of controls, purpose."""
    seen, heard, judging = (prompt.kind for prompt in context.curation_prompts)
    ways: list[tuple[str, Purpose]] = [(seen, LEARN), (heard, LEARN), (judging, LEARN)]
    ways += [(judging, purpose) for purpose in _CONTROLS]
    named = {
        kind if purpose == LEARN else purpose: costs_of(context.workspace, round, kind, purpose)
        for kind, purpose in ways
    }
    return {name: costs for name, costs in named.items() if costs}

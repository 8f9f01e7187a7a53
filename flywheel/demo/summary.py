"""What ``summary.json`` holds: each round's figures beside those of the transcripts and of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flywheel.core.types import Clip
from flywheel.demo.oracle import Oracle, test_scores, transcript_scores
from flywheel.metrics import mean_estimate, paired_difference
from flywheel.rounds import RoundContext
from flywheel.rounds.progress import DONE
from flywheel.rounds.publish import publish, report_of
from flywheel.rounds.stages.evaluate import trinity


def summary_of(context: RoundContext, oracle: Oracle, num_rounds: int) -> dict[str, Any]:
    """The figures of the base and of all rounds; each round's report gets what the oracle says of it."""
    workspace = context.workspace
    clips = list(context.split("test").by_id())
    scores = [test_scores(workspace, oracle, r) for r in range(num_rounds + 1)]
    given = [c for c in clips if c.transcript]
    transcripts = _varied(context, [c.transcript for c in given], given)
    truth = _varied(context, [oracle.text(c.uri) for c in clips], clips)
    base, *rest = [_of_round(context, round, scores) for round in range(num_rounds + 1)]
    for round in range(num_rounds + 1):
        publish(context, round, newest=round == num_rounds)
    return {
        "base": base,
        "transcripts": {**transcripts, "oracle": slot_f1(transcript_scores(workspace, oracle))},
        "truth": {"diversity": truth["diversity"]},
        "num_clips": len(context.clips),
        "rounds": rest,
    }


def measured(context: RoundContext, texts: Sequence[str], scores: Sequence[float]) -> dict[str, Any]:
    """Quantity, diversity and slot F1 of texts of the test clips, by clip id."""
    return {**_varied(context, texts, list(context.split("test").by_id())), "oracle": slot_f1(scores)}


def slot_f1(scores: Sequence[float]) -> dict[str, Any]:
    """The mean of clips' slot F1 with its interval, as it stands under ``oracle``."""
    return {"slot_f1": asdict(mean_estimate(scores))}


def _of_round(context: RoundContext, round: int, scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A round's figures; ``change`` is that of slot F1 since the round before, ``gain`` that since the base."""
    workspace, said = context.workspace, report_of(context, round).to_json()
    figures = slot_f1(scores[round])
    _, so_far = workspace.stage(round, "evaluate")
    workspace.set_stage(round, "evaluate", DONE, {**so_far, "oracle": figures})
    kept: dict[str, Any] = {key: said[key] for key in ("quantity", "diversity", "quality")}
    kept["oracle"] = figures
    if round:
        kept |= {"round": round, "num_corrections": said["num_corrections"], "stages_s": said["stages_s"]}
        kept["gate"] = said["details"].get("gate", {})
        kept["learned_from_round"] = said["details"].get("pretrain", {}).get("learned_from_round")
        kept["change"] = asdict(paired_difference(scores[round], scores[round - 1]))
        kept["gain"] = asdict(paired_difference(scores[round], scores[0]))
    return kept


def _varied(context: RoundContext, texts: Sequence[str], clips: Sequence[Clip]) -> dict[str, Any]:
    """Quantity and diversity of texts, as plain values."""
    amounts, varied = trinity(context, texts, [c.duration_s for c in clips])
    return {"quantity": amounts, "diversity": {name: asdict(v) for name, v in varied.items()}, "quality": {}}

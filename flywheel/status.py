"""Where a workspace stands, and what happened to a clip: read from the records, computed anew each time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.types import ROUND_STAGES, Stage
from flywheel.store import Workspace


def status_of(workspace: Workspace) -> dict[str, Any]:
    """Round, stage and its state, champion, counts, open rejects with their reasons."""
    rounds = [r for r in workspace.rounds() if r > 0]
    round = rounds[-1] if rounds else 0
    if round and workspace.stage(round, "gate")[0] == "done":
        round += 1
    round = max(round, 1)
    stages = {stage: workspace.stage(round, stage) for stage in ROUND_STAGES}
    stage: Stage = next((s for s in ROUND_STAGES if stages[s][0] != "done"), "gate")
    state, result = stages[stage]
    rejects = workspace.rejected(open_only=True)
    clips = workspace.clips()
    return {
        "round": round,
        "stage": stage,
        "state": state,
        "message": result.get("message", ""),
        "schedule": _schedule(workspace),
        "champion": {"round": workspace.champion()},
        "clips": dict(clips.group_by("split").len().sort("split").iter_rows()),
        "annotations": workspace.annotations().height,
        "generations": workspace.generations().height,
        "corrections": workspace.corrections().height,
        "open_rejects": rejects.height,
        "reject_reasons": [
            {"stage": s, "reason": r, "rows": n}
            for s, r, n in rejects.group_by("stage", "reason")
            .len()
            .sort("len", "reason", descending=[True, False])
            .iter_rows()
        ],
    }


def _schedule(workspace: Workspace) -> dict[str, Any] | None:
    """What the schedule does and waits for, and its next time; None where there never was one."""
    from flywheel.rounds.schedule import Times, state_of, zone_of

    state = state_of(workspace)
    if state is None:
        return None
    following = Times(state.cron, zone_of(workspace.config.schedule.timezone)).after(datetime.now(UTC))
    return {
        "cron": state.cron, "phase": state.phase, "since": state.since, "message": state.message,
        "next": following.isoformat() if following is not None else None,
    }  # fmt: skip


def text_of(found: dict[str, Any]) -> str:
    champion = found["champion"]["round"]
    lines = [
        f"round {found['round']}: {found['stage']} is {found['state']}"
        + (f" ({found['message']})" if found["message"] else ""),
        f"champion: {'the base model' if champion == 0 else f'round {champion}'}",
        "clips: " + (", ".join(f"{n} {s}" for s, n in found["clips"].items()) or "none"),
        f"annotations: {found['annotations']}, generations: {found['generations']}, corrections: {found['corrections']}",
        f"open rejects: {found['open_rejects']}",
    ]
    if plan := found["schedule"]:
        lines.append(
            f"schedule '{plan['cron']}': {plan['phase']}"
            + (f" ({plan['message']})" if plan["message"] else "")
            + f", next {plan['next']}"
        )
    lines += [f"  {r['rows']} x {r['stage']}: {r['reason']}" for r in found["reject_reasons"][:20]]
    return "\n".join(lines)


def comparison_text(found: dict[str, Any]) -> str:
    """A comparison as a table for the terminal."""
    a, b = found["a"], found["b"]

    def cell(value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, dict):
            return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        return f"{value:.4g}"

    lines = [f"{'':24} {'round ' + str(a):>26} {'round ' + str(b):>26}"]
    lines += [f"{name:24} {cell(x):>26} {cell(y):>26}" for name, (x, y) in found["figures"].items()]
    if found["anchors"]:
        d = found["anchors"]["difference"]
        lines.append(
            f"On {found['num_anchors']} anchors round {b} has {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] token F1 against round {a}; "
            f"exact p of better {found['anchors']['p_better']:.2g}, of worse {found['anchors']['p_worse']:.2g}."
        )
    else:
        lines.append("No corrected anchors that both wrote of: nothing can be tested.")
    lines.append(f"{found['equal_texts']} of {found['shared_texts']} texts are the same. Those that differ most:")
    for text in found["texts"]:
        lines += [f"  {text['uri'].rsplit('/', 1)[-1]}", f"    {a}: {text['a']}", f"    {b}: {text['b']}"]
    return "\n".join(lines)


def history_of(workspace: Workspace, clip: str) -> dict[str, Any]:
    """All that is on record of one clip. Raises UserError where the digits name none or several."""
    # Here: 'flywheel status' need not load what judges refiners.
    from human_refine.gold import gold_texts

    clips = workspace.clips().filter(pl.col("id").str.starts_with(clip))
    if clips.height != 1:
        raise UserError(
            f"show {clip}: names {clips.height or 'no'} clip{'s' * (clips.height != 1)}. Give the id as it stands in a report or export."
        )
    found = clips.to_dicts()[0]
    ids = pl.col("clip_id") == found["id"]
    made = {g["id"]: g for g in workspace.generations().filter(ids).drop("token_ids", "logprobs").iter_rows(named=True)}
    corrections, learned = workspace.corrections().filter(ids), workspace.examples().filter(ids)
    texts = []
    for row in workspace.annotations().filter(ids).sort("round", "kind").iter_rows(named=True):
        mine = corrections.filter(pl.col("annotation_id") == row["id"]).to_dicts()
        uses = (
            learned.filter(pl.col("annotation_id") == row["id"])
            .drop("id", "clip_id", "annotation_id", "text_hash")
            .to_dicts()
        )
        texts.append({**row, "generation": made.get(row["generation_id"]), "corrections": mine, "uses": uses})
    return {
        "clip": found, "texts": texts, "rejected": workspace.rejected().filter(ids).to_dicts(),
        "gold": gold_texts(workspace).get(found["id"], ""),
    }  # fmt: skip


def uses_of(workspace: Workspace, round: int | None = None) -> list[dict[str, Any]]:
    """Correction by correction: who gave it, and which round's model learned from it in which stage with what weight (no round: nobody did)."""
    learned = workspace.examples(round=round).explode("corrections").drop_nulls("corrections")
    found = workspace.corrections().select("id", "clip_id", "annotation_id", "verdict", "refiner", "at")
    joined = found.join(
        learned.select(pl.col("corrections").alias("id"), "round", "stage", "use", "weight"),
        on="id",
        how="left",
        maintain_order="left",
    )
    return (joined if round is None else joined.drop_nulls("round")).to_dicts()


def history_text(found: dict[str, Any]) -> str:
    clip = found["clip"]
    lines = [f"{clip['id']} {clip['uri']} {clip['start_s']:.2f} to {clip['end_s']:.2f} s, {clip['split']}"]
    for text in found["texts"]:
        made = text["generation"]
        who = (
            text["source"]
            if made is None
            else f"model {made['model']}" + (f" + adapter {made['adapter']}" if made["adapter"] else "")
        )
        lines.append(f"round {text['round']} {text['kind']} by {who}: {text['text']}")
        lines += [f"  M{u['round']} {u['use']} it in {u['stage']}, weight {u['weight']:g}" if u["use"] == "learned"
                  else f"  not for M{u['round']}'s {u['stage']}: rejected" for u in text["uses"]]  # fmt: skip
        lines += [f"  {c['verdict']} by {c['refiner']} at {c['at']}: {c['text']}" for c in text["corrections"]]
    lines += [f"gold: {found['gold']}"] * bool(found["gold"])
    lines += [f"round {r['round']} {r['stage']} rejected: {r['reason']}" for r in found["rejected"]]
    return "\n".join(lines)

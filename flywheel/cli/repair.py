"""The command that repairs clips' sounds, and says what was done to each."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    Json,
    Limit,
    Set,
    clips_named,
    one_clip,
    open_workspace,
    print_result,
    say_next,
    say_what_comes_next,
)
from flywheel.core.errors import UserError


def repair(
    clips: Annotated[
        list[str] | None,
        typer.Option(
            "--clips", metavar="CLIP", help="Only this clip, whatever was said of it before. May be repeated."
        ),
    ] = None,
    undo: Annotated[
        str | None, typer.Option("--undo", metavar="CLIP", help="Let a clip's original sound stand again.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="CLIP", help="All that was tried on a clip's sound, and why.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Write the repaired sounds as WAV files.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for --undo; it is recorded.")] = "",
    limit: Limit = None,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Edit clips' sounds where that brings sound and picture together; most are left alone, no original is touched."""
    from flywheel.curation.repair.summary import explain as explained
    from flywheel.curation.repair.summary import headline

    if sum(asked is not None for asked in (undo, explain, export)) > 1:
        raise UserError("repair: --undo, --explain and --export are three things. Say one of them.")
    workspace = open_workspace(config, set_)
    if explain is not None:
        told = explained(workspace, one_clip(workspace, explain))
        print_result(told, json_, "\n".join(map(_told, told)))
        return
    if undo is not None:
        said = _undone(workspace, undo, reason)
        text = f"clip {said['clip_id']}: its original sound stands again, in place of {said['parent']}"
        print_result(said, json_, text)
        say_next(f"flywheel repair --clips {said['clip_id']}  # looks at it again", config=config)
        return
    only = None if clips is None else clips_named(workspace, clips)
    if export is not None:
        wrote = _exported(workspace, export, only)
        lost = f"; {wrote['lost']} can't be made again" if wrote["lost"] else ""
        print_result(wrote, json_, f"{wrote['written']} sounds written to {export}{lost}")
        return
    found = _repaired(workspace, limit, only)
    print_result(found, json_, headline(found))
    say_what_comes_next(workspace, config, json_)


def _repaired(workspace: Any, limit: int | None, only: list[str] | None) -> dict[str, Any]:
    from flywheel.curation.repair.repairing import repair_clips
    from flywheel.curation.repair.summary import summary
    from flywheel.rounds.progress import current_round
    from flywheel.store.clip_index import ClipIndex

    with workspace.lock():
        round = current_round(workspace)
        # As the stage: clips of removed sources are not edited, nor do they tell what is usual.
        index = ClipIndex(workspace, without=workspace.removed_videos(round))
        gone = [clip_id for clip_id in only or () if clip_id not in index]
        if gone:
            raise UserError(f"clip {gone[0]}: its source was removed. 'flywheel sources remove --undo' brings it back.")
        if not index:
            raise UserError(f"{workspace.root}: no clips in use. Add videos with 'flywheel ingest FOLDER'.")
        run = repair_clips(workspace, index, round=round, limit=limit, only=only)
        return asdict(summary(workspace, run, index))


def _undone(workspace: Any, name: str, reason: str) -> dict[str, Any]:
    from flywheel.curation.repair.repairing import undo

    with workspace.lock():
        return asdict(undo(workspace, one_clip(workspace, name), reason.strip()))


def _exported(workspace: Any, out: Path, only: list[str] | None) -> dict[str, Any]:
    from flywheel.curation.repair.exporting import export_sounds

    with workspace.lock():
        return asdict(export_sounds(workspace, out, only))


def _told(row: dict[str, Any]) -> str:
    """What was done to a clip's sound at one time, and each plan that was tried."""
    edits = ", ".join(f"{edit['action']} {json.dumps(edit['parameters'])}" for edit in row["plan"].get("edits", ()))
    rewards = "; ".join(f"{name} {value:.2f} to {row['after'][name]:.2f}" for name, value in row["before"].items())
    lines = [f"{row['at']} {row['outcome']}{' (stands)' if row['standing'] else ''}: {row['reason']}"]
    lines += [f"  {line}" for line in (edits, rewards) if line]
    for cycle in row["trace"]:
        if not cycle.get("is_plan", True):
            lines.append(f"  no plan: {cycle['refused']}")
            continue
        plan = ", ".join(f"{edit['action']} {json.dumps(edit['parameters'])}" for edit in cycle["plan"]["edits"])
        after = ", ".join(f"{name} {value:.2f}" for name, value in cycle["rewards"].items())
        lines.append(
            f"  tried {plan} ({cycle['plan']['reason']}): {after}{'; ' if cycle['refused'] else ''}{cycle['refused']}"
        )
    return "\n".join(lines)

"""Long videos told in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli._shared import HERE, Config, Json, Limit, Set, clips_named, open_context, print_result, say_next
from flywheel.core.errors import UserError
from flywheel.core.foreign import as_lines


def narrate(
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="[VIDEO]...", help="Files or clips; left out, all of the workspace.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="JSON lines that are written, a video a line.")
    ] = Path("narratives.jsonl"),
    limit: Limit = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also what was rejected, with other sampling.")
    ] = False,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Tell long videos shot by shot and as a whole: seen, heard, in one text, checked, without repeats."""
    from flywheel.core.files import written_whole
    from flywheel.rounds.narration import films_of, narrate
    from flywheel.rounds.progress import current_round

    context = open_context(config, set_)
    workspace = context.workspace
    with workspace.lock():
        films, left_out = films_of(context.to_curate(), clips_named(workspace, videos) if videos else (), limit)
        if not films:
            why = next((f" ({video}: {reason})" for video, reason in left_out.items()), "")
            raise UserError(f"narrate: there is no video to be told{why}.")
        made = narrate(context, films, current_round(workspace), retry_failed=retry_failed)
    with written_whole(out) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made.films), encoding="utf-8")
    told = _summary(made, left_out)
    print_result({**told, "out": str(out)}, json_, as_lines(_lines(told, out)))
    if told["incomplete"]:
        say_next(
            "flywheel rejects  # why texts are missing", "flywheel narrate --retry-failed  # asks again", config=config
        )


def _summary(made: Any, left_out: dict[str, str]) -> dict[str, Any]:
    shots = [shot for row in made.films for shot in row["shots"]]
    return {
        "videos": len(made.films),
        "shots": len(shots),
        "merged": sum(shot["same_as"] is not None for shot in shots),
        "edits": {kind: sum(len((shot[kind] or {"edits": ()})["edits"]) for shot in shots) for kind in _EDITING},
        "narratives": sum(bool(row["narrative"]) for row in made.films),
        "incomplete": sum(any("no sound" not in why for why in row["missing"]) for row in made.films),
        "generated": made.generated,
        "reused": made.reused,
        "rejected": made.rejected,
        "left_out": left_out,
    }


_EDITING = ("consistency", "redundancy")


def _lines(told: dict[str, Any], out: Path) -> list[str]:
    edits = told["edits"]
    lines = [
        f"{told['narratives']} of {told['videos']} videos told as a whole, {told['shots']} shots, in {out}",
        f"  {edits['consistency']} edits of what was neither seen nor heard, {edits['redundancy']} of repeats; "
        f"{told['merged']} shots merged into earlier ones",
    ]
    if told["incomplete"]:
        lines.append(f"  {told['incomplete']} videos lack a text; 'missing' in the file says which")
    return lines + [f"{video}: left out: {why}" for video, why in told["left_out"].items()]

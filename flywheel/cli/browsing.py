"""Commands that list: clips and what was written of them, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from flywheel.cli._shared import HERE, Config, Json, open_workspace, print_result, say_next, say_what_comes_next
from flywheel.core.errors import FlywheelError, UserError
from flywheel.core.foreign import as_lines, one_line
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.rejects import Rejects
    from flywheel.store import Workspace
    from flywheel.store.browse import FoundClip

#: Characters of a text that a line shows.
_SHOWN = 100


def clips(
    search: Annotated[
        str, typer.Option(help="Words that a caption, transcript or file's name holds, all of them.")
    ] = "",
    split: Annotated[str, typer.Option(help="train, test or anchor.")] = "",
    source: Annotated[str, typer.Option(help="A part of the file's path, such as a folder.")] = "",
    round: Annotated[
        int | None, typer.Option("--round", min=0, help="Texts of this round; the newest if left out.")
    ] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only clips for which something failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Clips to list.")] = 20,
    after: Annotated[str, typer.Option(metavar="CLIP", help="Go on behind this clip of the same list.")] = "",
    offset: Annotated[int, typer.Option(min=0, help="Clips to pass over.")] = 0,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """List clips with their captions: by words, split, folder, round or failure."""
    from flywheel.core.types import Split
    from flywheel.store.browse import ClipQuery, find_clips

    if split and split not in get_args(Split):
        raise UserError(f"--split {split}: unknown. There are {', '.join(get_args(Split))}.")
    query = ClipQuery(
        search=search,
        split=split,
        source=source,
        round=round,
        rejected=rejected,
        after=after,
        limit=limit,
        offset=offset,
    )
    workspace = open_workspace(config)
    page = find_clips(workspace, query)
    found = [clip.to_json() for clip in page.clips]
    text = as_lines(line for clip in page.clips for line in _clip_lines(clip))
    is_new = not workspace.count("clips")
    text = text or ("no clips yet" if is_new else "no clip matches")
    print_result({"clips": found, "offset": offset, "more": page.more, "after": page.after}, json_, text)
    if is_new:
        say_what_comes_next(workspace, config, json_, told=True)
    if page.more and not json_:
        say(f"more: --after {page.after}")
    if page.clips and not json_:
        say_next(f"flywheel show {page.clips[0].id[:12]}  # all that was written of a clip, and by whom", config=config)


def _clip_lines(clip: FoundClip) -> list[str]:
    lines = [f"{clip.id[:12]}  {clip.name}  {clip.start_s:.1f}-{clip.end_s:.1f} s  {clip.split}"]
    shown = [(f"round {text['round']} {text['kind']}", text["text"]) for text in clip.texts if text["round"]]
    if not shown and clip.transcript:
        shown = [("transcript", clip.transcript)]
    return lines + [f"    {what}: {one_line(text, _SHOWN)}" for what, text in shown]


def rejects(
    stage: Annotated[str, typer.Option(help="Only those of one stage: ingest, transcribe, annotate, …")] = "",
    retry: Annotated[bool, typer.Option("--retry", help="Try them again.")] = False,
    dismiss: Annotated[
        str, typer.Option("--dismiss", metavar="REASON", help="Close them, with a reason that is recorded.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Rows to list.")] = 50,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """List what failed and is still open, with files and reasons; try it again, or close it."""
    from flywheel.rejects import dismissed, open_rejects

    if retry and dismiss:
        raise UserError("rejects: say --retry or --dismiss, not both.")
    workspace = open_workspace(config)
    found = open_rejects(workspace, stage)
    if dismiss:
        with workspace.lock():
            count = dismissed(workspace, found, dismiss)
        print_result({"dismissed": count}, json_, f"{count} rejects are closed")
        say_what_comes_next(workspace, config, json_)
        return
    if retry:
        _retry(workspace, found, config, json_)
        return
    print_result(found.to_json(limit), json_, found.to_text(limit))
    if found.rows and not json_:
        say_next("flywheel rejects --retry", "flywheel rejects --dismiss REASON", config=config)


def _retry(workspace: Workspace, found: Rejects, config: Any, as_json: bool) -> None:
    """Take rejected files in again, and ask again about rejected clips."""
    from flywheel.rejects import retried

    result = retried(workspace, found)
    for line in result.left:
        say(line)
    print_result(result.to_json(), as_json, str(result))
    say_what_comes_next(workspace, config, as_json)
    if result.tried and result.open == result.tried:
        raise typer.Exit(FlywheelError.exit_code)

"""Commands that make the index of clips, and that search it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    DryRun,
    Json,
    Limit,
    Set,
    open_workspace,
    print_result,
    say_next,
)
from flywheel.core.errors import UserError
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say

#: Pairs of duplicates that are listed.
_PAIRS = 100

if TYPE_CHECKING:
    from flywheel.search.searching import Found


def index(
    config: Config = HERE,
    set_: Set = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the encoder anew, and make all vectors by the new one.")
    ] = False,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Make nothing; list clips of different videos that look alike.")
    ] = False,
    least: Annotated[
        float, typer.Option("--least", min=-1, max=1, help="Of duplicates: the cosine from which clips look alike.")
    ] = 0.98,
    keep_together: Annotated[
        bool,
        typer.Option("--keep-together", help="Of duplicates: also put their videos on one side of the split."),
    ] = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Make the vectors that clips are searched by; the encoder is trained first where there is none."""
    if keep_together and not duplicates:
        raise UserError("index: --keep-together is of --duplicates. Name both.")
    if duplicates:
        _duplicates(config, set_, least=least, keep=keep_together and not dry_run, limit=limit, json_=json_)
        return
    from flywheel.search.indexing import index as make
    from flywheel.search.indexing import outlook

    workspace = open_workspace(config, set_)
    if dry_run:
        planned = outlook(workspace, retrain=retrain)
        first = f"an encoder '{workspace.config.index.encoder}' would be trained first, and " if planned.trains else ""
        print_result(asdict(planned), json_, f"{first}{planned.clips} clips would be read for their vectors")
        return
    with workspace.lock():
        done = make(workspace, retrain=retrain, limit=limit)
    text = (
        f"encoder '{done.encoder}' ({done.model}), {done.clips} clips; new vectors: {done.video} of pictures, "
        f"{done.sound} of sounds, {done.text} of texts" + (f"; {done.rejected} rejected" if done.rejected else "")
    )
    print_result(asdict(done), json_, text)
    if not json_:
        say_next('flywheel search "what is seen or heard"', config=config)


def _duplicates(
    config: Path, set_: list[str] | None, *, least: float, keep: bool, limit: int | None, json_: bool
) -> None:
    from flywheel.search.duplicates import KeptTogether, duplicates, keep_together

    workspace = open_workspace(config, set_)
    found = duplicates(workspace, least=least, limit=limit or _PAIRS)
    kept = KeptTogether()
    if keep:
        with workspace.lock():
            kept = keep_together(workspace, found)
    lines = [
        f"{pair.video:.3f}  {pair.first[:12]}  {pair.second[:12]}  {Path(pair.uris[0]).name}  {Path(pair.uris[1]).name}"
        + (f"  ({pair.splits[0]}, {pair.splits[1]})" if pair.apart else "")
        for pair in found
    ]
    print_result(
        [pair.to_json() for pair in found], json_, as_lines(lines) or "no clips of different videos look alike"
    )
    if json_:
        return
    if kept.united or kept.apart:
        say(f"index: the videos of {kept.united} pairs became one family, {kept.apart} pairs wait for a resplit")
    if kept.apart:
        say_next("flywheel resplit --dry-run", config=config)
    elif any(pair.apart for pair in found):
        say_next("flywheel index --duplicates --keep-together  # puts them on one side of the split", config=config)


def search(
    text: Annotated[str, typer.Argument(help="What is seen or heard, in words.")] = "",
    like: Annotated[
        Path | None, typer.Option("--like", metavar="FILE", help="A video that the clips should be like.")
    ] = None,
    sound: Annotated[
        Path | None, typer.Option("--sound", metavar="FILE", help="A sound that the clips should be like.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, test or anchor.")] = "",
    source: Annotated[str, typer.Option(help="A part of the file's path, such as a folder.")] = "",
    round: Annotated[
        int | None, typer.Option("--round", min=0, help="Only clips that have a text of this round.")
    ] = None,
    without_speech: Annotated[
        bool,
        typer.Option(
            "--without-speech", help="Only clips without sound, and those in which a recogniser heard nobody."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Clips to list.")] = 10,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Also write what was found as a page of pictures.")
    ] = None,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Find clips by what is seen, heard or written: by words, a video, a sound, or several of them."""
    from flywheel.core.types import Split

    if split and split not in get_args(Split):
        raise UserError(f"--split {split}: unknown. There are {', '.join(get_args(Split))}.")
    for option, file in (("--like", like), ("--sound", sound)):
        if file is not None and not file.is_file():
            raise UserError(f"{option} {file}: there is no such file.")
    if not (text.strip() or like or sound):
        raise UserError("search: says no word. Say what is seen or heard, or name a file with --like or --sound.")
    workspace = open_workspace(config)
    from flywheel.search.searching import Searcher, SearchQuery

    query = SearchQuery(
        text=text,
        like=like,
        sound=sound,
        split=split,
        source=source,
        round=round,
        without_speech=without_speech,
        limit=limit,
    )
    found = Searcher(workspace).search(query)
    if sheet is not None:
        from flywheel.search.sheet import write_sheet

        asked = " · ".join(str(part) for part in (text.strip()[:200], like and like.name, sound and sound.name) if part)
        write_sheet(workspace, asked, found, sheet)
    print_result([clip.to_json() for clip in found], json_, as_lines(map(_line, found)) or "no clip matches")
    if sheet is not None and not json_:
        say_next(f"open {sheet} in a browser", config=config)
    elif found and not json_:
        say_next(f"flywheel show {found[0].clip_id[:12]}  # all that was written of a clip, and by whom", config=config)


def _line(clip: Found) -> str:
    by = ", ".join(f"{name} {value:+.1f}" for name, value in clip.by.items())
    name = Path(clip.uri).name
    return f"{clip.score:5.1f}  {clip.clip_id[:12]}  {name}  {clip.start_s:.1f}-{clip.end_s:.1f} s  (by {by})"

"""Commands that make a workspace, take data in, and take it away."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    DryRun,
    Json,
    Limit,
    Set,
    Yes,
    agreed,
    confirm,
    open_context,
    open_workspace,
    print_result,
    print_text,
    say_next,
    say_what_comes_next,
)
from flywheel.core.constants import MAX_SEED
from flywheel.core.errors import FlywheelError, UserError
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.ingest import IngestResult
    from flywheel.rounds.resplit import Resplit
    from flywheel.rounds.takedown import Takedown
    from flywheel.store import Workspace


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders, files, JSONL, JSON, Parquet, CSV, TSV, datasets on disk, tars; or s3:// URLs."),
    ],
    config: Config = HERE,
    set_: Set = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    recut: Annotated[
        bool, typer.Option("--recut", help="Cut files that are in already anew, by corpus.split_by; before any round.")
    ] = False,
    json_: Json = False,
) -> None:
    """Add videos: files become clips, or rejected rows with their reason; exit 1 where all were rejected."""
    from flywheel.ingest import IngestResult, SourcesError
    from flywheel.ingest import ingest as take_in
    from flywheel.store.recut import forget_cut

    workspace = open_workspace(config, set_)
    if recut and dry_run:
        raise UserError("ingest: say --recut or --dry-run, not both.")
    with contextlib.nullcontext() if dry_run else workspace.lock():
        if recut:
            say(f"ingest: {forget_cut(workspace, sources)} clips of these files are forgotten, and cut anew")
        try:
            result = take_in(workspace, sources, limit=limit, dry_run=dry_run)
        except SourcesError as error:
            if error.result != IngestResult():
                say(_say_how(error.result))
            raise
        if workspace.config.corpus.min_anchor_videos and not dry_run:
            _draw_anchors(workspace)
    print_result(vars(result), json_, ("would be: " if dry_run else "") + _say_how(result))
    if not dry_run:
        say_what_comes_next(workspace, config, json_)
    if result.rejected and not (result.clips or result.known or result.new_texts):
        raise typer.Exit(FlywheelError.exit_code)


def _draw_anchors(workspace: Workspace) -> None:
    from flywheel.rounds.resplit import draw_missing_anchors

    if anchors := draw_missing_anchors(workspace):
        say(f"ingest: {anchors} videos are anchors now (corpus.min_anchor_videos)")


def _say_how(result: IngestResult) -> str:
    """Say how sources were read; returns the line of what they gave."""
    for line in result.first_rejected:
        say(f"rejected: {line}")
    for line in result.notes:
        say(f"note: {line}")
    if result.passed_over:
        say(f"passed over: {', '.join(f'{count} {kind}' for kind, count in result.passed_over.items())}")
    hint = "; 'flywheel rejects' lists them." if result.rejected else "."
    others = f", {result.other_texts} further texts of a clip left out" if result.other_texts else ""
    renewed = f", {result.new_texts} known with new texts" if result.new_texts else ""
    taken = f"{result.clips} clips taken in, {result.known} known already{renewed}{others}"
    return f"{taken}, {result.rejected} files rejected{hint}"


def export(
    out: Annotated[Path, typer.Option(help="A new folder, or s3://BUCKET/PREFIX.")],
    form: Annotated[
        str, typer.Option("--format", help="llava, messages, sharegpt, hf, webdataset, label-studio or webvtt.")
    ] = "messages",
    round: Annotated[
        int | None, typer.Option("--round", min=0, help="The round whose data it is; the champion's if left out.")
    ] = None,
    splits: Annotated[str, typer.Option(help="Of train, test and anchor, with commas.")] = "train",
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Export the dataset of the model in use, with a card; the same model gives the same bytes."""
    from flywheel.rounds.export import export as take_away

    names = tuple(name.strip() for name in splits.split(","))
    written = take_away(open_context(config, set_), out, form, round=round, splits=names)
    sources = ", ".join(f"{n} by {source}" for source, n in sorted(written.sources.items()))
    left_out = "".join(f"; left out: {n} {why}" for why, n in sorted(written.left_out.items()))
    text = f"{written.clips} clips of round {written.round} in {written.out} ({sources}){left_out}"
    print_result(asdict(written), json_, text)
    say_next(f"see {written.out}/README.md for the lines that load it")


def takedown(
    clips: Annotated[list[str], typer.Argument(help="Ids of clips, or paths of their files.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    keep_exports: Annotated[
        bool, typer.Option("--keep-exports", help="Name the datasets that hold them, and leave them.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Remove clips and all that is on record of them, datasets that hold them too; says where they were used."""
    from flywheel.rounds.publish import rewrite_reports
    from flywheel.rounds.takedown import planned, take_down, would_take_down

    context = open_context(config, set_)
    workspace = context.workspace
    rewrite = partial(rewrite_reports, context)

    def plan() -> Takedown:
        return would_take_down(workspace, planned(workspace, clips, reason))

    def ask(plan: Takedown) -> None:
        confirm("takedown", _takedown_text(plan, "would be taken down, for good"))

    if dry_run:
        with workspace.lock():
            asked = plan()
        print_result(asdict(asked), json_, _takedown_text(asked, "would be taken down"))
        named = shlex.join(["flywheel", "takedown", *clips, "--reason", reason])
        say_next(f"{named} --yes  # does it, for good", config=config)
        return
    with workspace.lock() if yes else agreed(workspace.lock, plan, ask):
        taken = take_down(workspace, clips, reason, rewrite=rewrite, keep_exports=keep_exports)
    print_result(asdict(taken), json_, _takedown_text(taken, "taken down"))
    if workspace.url is not None:
        say("takedown: copies on other hosts go when the workspace is opened there next")
    say_what_comes_next(workspace, config, json_)


def _takedown_text(taken: Takedown, what: str) -> str:
    """A takedown line by line, for the terminal."""
    removed = ", ".join(f"{n} {kind}" for kind, n in taken.removed.items() if n)
    fate = "deleted" if taken.exports_deleted else "still holds them"
    lines = [f"{len(taken.clips)} clips {what}: {removed}"]
    if taken.overlapping:
        lines.append(f"{len(taken.overlapping)} of them show the same part of a video that was named")
    lines += [f"M{u['round']} {u['use']} {u['clip_id']} in {u['stage']}" for u in taken.learned]
    lines += [f"{fate}: {export}" for export in taken.exports]
    lines += [f"left in place (outside the workspace): {file}" for file in taken.files]
    return as_lines(lines)


def resplit(
    dry_run: DryRun = False,
    yes: Yes = False,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Draw train, test and anchor anew, by video; figures before are not comparable with those after."""
    from flywheel.rounds.resplit import planned_resplit
    from flywheel.rounds.resplit import resplit as split_anew

    context = open_context(config, set_)
    workspace = context.workspace

    def ask(plan: Resplit) -> None:
        confirm("resplit", plan.to_text("would change sides"))

    asks = None if yes or dry_run else ask
    with agreed(partial(workspace.lock, resplits=True), partial(planned_resplit, workspace), asks) as plan:
        if not dry_run:
            split_anew(context, plan)
    print_result(asdict(plan), json_, plan.to_text("would change sides" if dry_run else "changed sides"))
    if not dry_run:
        say_what_comes_next(workspace, config, json_)


def move_database(
    url: Annotated[str, typer.Argument(help="An empty PostgreSQL database, postgresql://user@host/name.")],
    config: Config = HERE,
    set_: Set = None,
) -> None:
    """Take the workspace's database to another place; nothing is lost, and the old one can't be used by mistake."""
    workspace = open_workspace(config, set_)
    with workspace.lock():
        count = workspace.move_database(url)
    print_text(f"{count} rows moved. Write this into flywheel.yaml, under store:\n  database: {url}")
    say_next("flywheel status  # once it stands there: the workspace at its new place", config=config)


def playground(
    folder: Annotated[Path, typer.Argument(help="Where to write corpus/ and oracle.parquet.")],
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the scenes.")] = 0,
    num_clips: Annotated[int, typer.Option(help="Clips to render.")] = 800,
    noise: Annotated[float, typer.Option(help="Share of transcripts with noise.")] = 0.5,
    world: Annotated[
        str, typer.Option(help="scenes; av: things that sound as they act, and planted faults; timeline: long videos.")
    ] = "scenes",
    grammar: Annotated[
        str, typer.Option(help="scenes: corpus, one wording; paraphrase: many wordings for the same facts.")
    ] = "corpus",
    mismatch: Annotated[float | None, typer.Option(help="av: share of clips with another class's sound.")] = None,
    shift: Annotated[float | None, typer.Option(help="av: with their sound .5 to 1 s early or late.")] = None,
    off_screen: Annotated[float | None, typer.Option(help="av: whose sound comes from something not seen.")] = None,
    silent: Annotated[float | None, typer.Option(help="av: in which nothing sounds.")] = None,
    no_track: Annotated[float | None, typer.Option(help="av: without an audio track.")] = None,
    damage: Annotated[
        float | None, typer.Option(help="av: share of clips whose sound is damaged, so that an edit can repair it.")
    ] = None,
) -> None:
    """Render the bundled corpus: real MP4 files with noisy transcripts."""
    from flywheel import playground as rendered

    named = {"mismatch": mismatch, "shift": shift, "off_screen": off_screen, "silent": silent, "no_track": no_track}
    faults = {fault: share for fault, share in named.items() if share is not None}
    if grammar != "corpus" and world != "scenes":
        raise UserError(f"--grammar {grammar}: is for --world scenes.")
    if world == "av":
        rendered.write_av_playground(
            folder, seed=seed, num_clips=num_clips, noise_rate=noise, faults=faults, damage_rate=damage or 0.0
        )
    elif world not in ("scenes", "timeline"):
        raise UserError(f"--world {world}: need scenes, av or timeline.")
    elif faults or damage is not None:
        option = next(iter(faults), "damage").replace("_", "-")
        raise UserError(f"--{option}: plants a fault in sound. Give --world av too.")
    elif world == "timeline":
        rendered.write_timelines(folder, seed=seed, num_videos=num_clips)
        print_text(str(folder / "videos"))
        return
    else:
        rendered.write_playground(folder, seed=seed, num_clips=num_clips, noise_rate=noise, grammar=grammar)
    print_text(str(folder / "corpus"))
    say_next("flywheel init  # makes a workspace", f"flywheel ingest {shlex.quote(str(folder / 'corpus'))}")

"""Which clips are kept: measured, decided, explained, and said by a lead."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    DryRun,
    Json,
    Limit,
    Set,
    clips_named,
    context_of,
    one_clip,
    open_workspace,
    print_result,
    say_next,
    say_what_comes_next,
)
from flywheel.core.errors import UserError

if TYPE_CHECKING:
    from flywheel.curation.judged import Judged
    from flywheel.rounds import RoundContext
    from flywheel.store import Workspace
    from flywheel.store.clip_index import ClipIndex


def curate(
    config: Config = HERE,
    set_: Set = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="CLIP", help="All that is known of a clip, and what was decided.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="CLIP", help="A lead's word: this clip stays. May be repeated."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="CLIP", help="A lead's word: this clip goes. May be repeated.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for --keep and --drop; it is recorded.")] = "",
    limit: Limit = None,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Measure how clips' sounds fit their pictures, and decide which train clips are kept."""
    from flywheel.curation.curating import headline

    workspace = open_workspace(config, set_)
    if explain is not None:
        known = _explained(workspace, explain)
        said = {name: value for name, value in known.items() if name != "lead" or value is not None}
        print_result(known, json_, "\n".join(f"{name}: {_shown(value)}" for name, value in said.items()))
        return
    if keep or drop:
        said = _say(workspace, keep or [], drop or [], reason)
        text = f"{said['keep']} clips are kept and {said['drop']} dropped, whatever policies say, from the next run on"
        print_result(said, json_, text)
        say_next("flywheel curate  # decides anew, with these words", config=config)
        return
    curated = _curated(workspace, limit, dry_run)
    if not curated["run"]:
        text = f"{curated['to_measure']} clips are not measured yet: 'flywheel curate' measures them, and decides"
        print_result(curated, json_, text)
        if not json_:
            say_next("flywheel curate  # measures them all, and decides; --limit 100 measures some", config=config)
        return
    more = f", {curated['judged']['to_ask']} would be judged" if curated["judged"] else ""
    would = f"would be decided ({curated['to_measure']} clips are not measured yet{more}): " if dry_run else ""
    print_result(curated, json_, would + headline(curated))
    say_what_comes_next(workspace, config, json_)


def _curated(workspace: Workspace, limit: int | None, dry_run: bool) -> dict[str, Any]:
    """Measure, have judged, and decide; with ``dry_run`` decide on what is on record, and change nothing."""
    from flywheel.curation.curating import Curated
    from flywheel.curation.curating import curate as decide
    from flywheel.curation.evidence import Measured, measure_all, num_unmeasured
    from flywheel.curation.speech import measure_speech, network_of
    from flywheel.rounds.progress import current_round

    judges = workspace.config.curate.judge != "never"
    context = context_of(workspace) if judges else None
    with workspace.lock():
        round = current_round(workspace)
        index = _used(workspace, context, round)
        if dry_run and not workspace.count("sounds"):
            return {**asdict(Curated(kept=len(index), unscored=len(index))), "to_measure": len(index)}
        network = None if dry_run else network_of(workspace)
        measured = Measured() if dry_run else measure_all(workspace, index, round, limit)
        measure_speech(workspace, index.of("train", "test", "anchor").by_id(), network, limit)
        judged = _judged(context, round, limit, dry_run) if context is not None else None
        curated = asdict(decide(workspace, index, workspace.config.curate, measured, judged=judged, dry_run=dry_run))
        return {**curated, "to_measure": num_unmeasured(workspace, index)}


def _used(workspace: Workspace, context: RoundContext | None, round: int) -> ClipIndex:
    """The clips that the round uses: all but those of sources that were removed. Raises UserError for none."""
    from flywheel.store.clip_index import ClipIndex

    gone = workspace.removed_videos(round)
    index = context.to_curate() if context is not None else ClipIndex(workspace, without=gone)
    if not index and gone and len(ClipIndex(workspace)):
        raise UserError(
            f"{workspace.root}: all clips are of sources that were removed. Take some in again with "
            "'flywheel sources remove --undo', which 'flywheel sources list' names."
        )
    if not index:
        raise UserError(f"{workspace.root}: no clips yet. Add videos with 'flywheel ingest FOLDER'.")
    return index


def _judged(context: RoundContext, round: int, limit: int | None, dry_run: bool) -> Judged | None:
    """What models were asked; of a ``dry_run``, what is on record."""
    from flywheel.rounds.judging import judge_in_doubt

    for prompt in context.curation_prompts:
        context.writer(prompt, round).check()
    return judge_in_doubt(context, round, limit, dry_run=dry_run)


def _explained(workspace: Workspace, name: str) -> dict[str, Any]:
    from flywheel.curation.curating import explain

    return explain(workspace, one_clip(workspace, name))


def _say(workspace: Workspace, keep: list[str], drop: list[str], reason: str) -> dict[str, int]:
    """Record a lead's words. Raises UserError without a reason, and for clips that there are none of."""
    if not reason.strip():
        raise UserError("curate: --keep and --drop need --reason TEXT, which is recorded.")
    with workspace.lock():
        kept, dropped = clips_named(workspace, keep), clips_named(workspace, drop)
        if both := sorted(set(kept) & set(dropped)):
            raise UserError(f"clip {both[0]}: is to be kept and dropped. Say one of both.")
        for clips, stays in ((kept, True), (dropped, False)):
            for clip_id in clips:
                workspace.add_clip_verdict(clip_id, kept=stays, reason=reason.strip())
    return {"keep": len(kept), "drop": len(dropped)}


def _shown(value: Any) -> str:
    return "can't be told" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

"""Commands that write texts, run rounds, and put models in force."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    DryRun,
    Json,
    Limit,
    Set,
    check_database,
    context_of,
    end_on_sigterm,
    open_context,
    open_workspace,
    print_result,
    say_next,
    say_what_comes_next,
)
from flywheel.core.constants import CAPTION, MAX_SEED
from flywheel.core.errors import FlywheelError, GateRefused, UserError
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.store import Workspace


def annotate(
    config: Config = HERE,
    set_: Set = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    json_: Json = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Only clips that were rejected, with other sampling; of evaluations too."),
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="Share the work with other processes that say so, on this host or others.")
    ] = False,
) -> None:
    """Run or resume the annotation of the current round."""
    from flywheel.rounds.conductor import check_before, evaluate_again, run_round
    from flywheel.rounds.progress import current_round
    from flywheel.rounds.stages import to_record
    from flywheel.rounds.stages.annotate import write
    from flywheel.rounds.toy import toy_notice

    context = open_context(config, set_)
    workspace = context.workspace
    if join:
        if limit is not None or retry_failed or dry_run:
            raise UserError("annotate --join: takes no --limit, --retry-failed or --dry-run. Leave them out.")
        _join(workspace, config, json_)
        return
    with workspace.lock():
        round = current_round(workspace)
        todo = len(context.split("train", "anchor")) - workspace.count_texts(round)
        if dry_run or limit is not None or retry_failed:
            check_before(context)
        if dry_run:
            print_result({"round": round, "todo": todo}, json_, f"round {round}: {todo} clips to annotate")
            return
        if limit is not None or retry_failed:
            if notice := toy_notice(workspace):
                say(notice)
            result = to_record(write(context, round, limit, retry_failed=retry_failed))
            for measured, count in (evaluate_again(context) if retry_failed else {}).items():
                say(f"round {measured}: {count} texts of its evaluation written, figures computed anew")
        else:
            run_round(context, until="annotate")
            result = workspace.stage(round, "annotate")[1]
    print_result(result, json_, _annotated(round, result))
    say_what_comes_next(workspace, config, json_)


def _join(workspace: Workspace, config: Path, as_json: bool) -> None:
    from flywheel.rounds.joining import join

    round, written = join(workspace)
    result = workspace.stage(round, "annotate")[1] | {"written_here": written}
    print_result(result, as_json, f"{_annotated(round, result)}; {written} texts written by this process")
    say_what_comes_next(workspace, config, as_json)


def _annotated(round: int, result: Mapping[str, Any]) -> str:
    """What the stage came to, in a line."""
    from flywheel.rounds.verdict import model_name

    rejected = {CAPTION: result["rejected"], **{kind: made["rejected"] for kind, made in result["also"].items()}}
    of_kinds = ", ".join(f"{count} {kind}" for kind, count in rejected.items())
    text = (
        f"round {round}: {result['annotations']} texts by {model_name(result['by'])}, "
        f"{sum(rejected.values())} rejected now"
    )
    if len(rejected) > 1:
        text += f" ({of_kinds})"
    return text


def serve(
    config: Config = HERE,
    set_: Set = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    round: Annotated[
        int | None, typer.Option(min=0, help="The round whose model is served; the champion if left out.")
    ] = None,
) -> None:
    """Serve a round's model with vLLM, for engine openai, until interrupted.

    Adapters are loaded as they are asked for.
    """
    from annotators import serving

    workspace = open_workspace(config, set_)
    context = context_of(workspace)
    model, _ = context.checkpoint(workspace.champion() if round is None else round)
    server = serving.start(
        model.resolve(),
        workspace.root,
        port=port,
        host=host,
        options=dict(workspace.config.main.options),
        inputs=context.inputs_of(context.prompt),
    )
    end_on_sigterm()
    try:
        text = f"{server.url} serves {model}. Put it into models.main.servers; Ctrl-C ends it."
        print_result({"url": server.url}, False, text)
        asked = f"--set models.main.engine=openai --set models.main.servers=[{server.url}]"
        say_next(f"flywheel round {asked}  # in another terminal: asks this server", config=config)
        code = server.process.wait()
        raise FlywheelError(f"flywheel serve: the server ended with {code}; {server.log} says why.")
    finally:
        server.stop()


def round_(
    config: Config = HERE,
    set_: Set = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage: annotate, review, pretrain, …")] = None,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Run or resume the current round."""
    _run_rounds(config, set_, 1, until, dry_run, json_)


def run(
    config: Config = HERE,
    set_: Set = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 1,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Run several rounds, one after the other."""
    _run_rounds(config, set_, rounds, None, dry_run, json_)


def _run_rounds(
    config: Path, overrides: list[str] | None, count: int, until: str | None, dry_run: bool, as_json: bool
) -> None:
    from flywheel.rounds import run_round
    from flywheel.rounds.conductor import check_before
    from flywheel.rounds.progress import current_round, current_stage

    context = open_context(config, overrides)
    if dry_run:
        check_before(context)
        round = current_round(context.workspace)
        stage = current_stage(context.workspace, round)
        print_result({"round": round, "stage": stage}, as_json, f"would run round {round} from {stage} on")
        return
    refused = ""
    with context.workspace.lock():
        for _ in range(count):
            result = run_round(context, until=until)  # type: ignore[arg-type]
            print_result(result, as_json, result["message"])
            if result["code"] == GateRefused.code:
                refused = result["message"]
            if result["state"] != "done":
                break
    say_what_comes_next(context.workspace, config, as_json)
    if refused:
        raise GateRefused(refused)


def promote(
    round: Annotated[int, typer.Argument(min=1, help="The round whose model is to be champion.")],
    force: Annotated[
        str, typer.Option("--force", metavar="REASON", help="Promote whatever the gate says; the reason is recorded.")
    ] = "",
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Put a round's model in force if it passes the gate on today's anchors; exit 3 if not."""
    from flywheel.rounds import champion

    context = open_context(config, set_)
    with context.workspace.lock():
        judgement = champion.promote(context, round, force)
    result: dict[str, Any] = {"round": round, "verdict": "promoted", "reason": f"forced: {force}"}
    if judgement is not None:
        result = {"round": round, **judgement.record()}
    text = f"round {round} {result['verdict']}: {result['reason']}"
    print_result(result, json_, text)
    say_what_comes_next(context.workspace, config, json_)
    if result["verdict"] != "promoted":
        raise GateRefused(text)


def rollback(
    to: Annotated[
        int | None,
        typer.Option(min=0, help="An earlier champion, 0 is the base; the one before this if left out."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Put the champion before this one back in force: model and data."""
    from flywheel.rounds import champion

    context = open_context(config, set_)
    with context.workspace.lock():
        round = champion.rollback(context, reason, to)
    name = "the base model" if round == 0 else f"round {round}"
    print_result({"champion": {"round": round}}, json_, f"champion: {name}")
    say_what_comes_next(context.workspace, config, json_)


def compare(
    a: Annotated[int, typer.Argument(min=0, help="A round; 0 is the base.")],
    b: Annotated[int, typer.Argument(min=0, help="Another.")],
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Two rounds side by side: figures, a paired test on the anchors, the texts that differ most."""
    from flywheel.rounds import champion
    from flywheel.status import comparison_text

    context = open_context(config, set_)
    comparison = champion.compare(context, a, b)
    print_result(comparison, json_, comparison_text(comparison, context.config.gate.min_anchors))
    say_next(
        f"flywheel report {max(a, b)}  # both on one page, with clips to look at",
        *([f"flywheel promote {max(a, b)}  # tests it again on today's anchors"] if max(a, b) else []),
        config=config,
    )


def prune(
    keep: Annotated[
        int, typer.Option(min=0, help="Champions before this one, and last rounds, whose weights stay.")
    ] = 2,
    config: Config = HERE,
    set_: Set = None,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Delete the weights of old rounds that neither the champion nor a rollback needs; records stay."""
    from flywheel.rounds import champion

    context = open_context(config, set_)
    with context.workspace.lock():
        pruned = champion.prune(context, keep, dry_run=dry_run)
    deleted = "that would be deleted" if dry_run else "deleted"
    print_result({"rounds": pruned}, json_, f"weights {deleted} of rounds: {', '.join(map(str, pruned)) or 'none'}")
    if dry_run and pruned:
        say_next(f"flywheel prune --keep {keep}  # deletes them", config=config)
    elif not dry_run:
        say_what_comes_next(context.workspace, config, json_)


_DEMO = Path("flywheel-demo")


def demo(
    out: Annotated[Path, typer.Option(help="Workspace folder, or s3://BUCKET/PREFIX.")] = _DEMO,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the corpus and the simulated reviewer.")] = 0,
    noise: Annotated[float, typer.Option(help="Share of transcripts with noise.")] = 0.5,
    quick: Annotated[bool, typer.Option("--quick", help="A small corpus and two short rounds: some minutes.")] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="What --quick made, at once; the first time it is made.")
    ] = False,
    database: Annotated[str, typer.Option(help="PostgreSQL's URL; a workspace on an object store needs one.")] = "",
    json_: Json = False,
) -> None:
    """See rounds on a bundled corpus: annotate, correct, train, test, and again."""
    from flywheel.demo import FULL, QUICK, ready_folder, ready_summary, run_demo, table, verdict, where
    from flywheel.store import Workspace
    from flywheel.store.objects import url_of
    from human_refine.people import invite

    if ready and out == _DEMO:
        out = ready_folder()
    summary = ready_summary(out) if ready else None
    if summary is None:
        if database and (address := url_of(out)) is not None:
            check_database(address, database)
        settings = {"store": {"database": database}} if database else None
        summary = run_demo(out, seed=seed, noise=noise, size=QUICK if quick or ready else FULL, settings=settings)
    print_result(summary, json_, table(summary))
    workspace = Workspace.open(out)
    for line in (verdict(summary), *where(summary, out, workspace.root, invite(workspace, "you", "lead"))):
        say(line)

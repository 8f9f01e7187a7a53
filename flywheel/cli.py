"""The command line: arguments, one call, print. What takes long to import is imported by the command that needs it.

Results go to stdout, progress and log to stderr. Exit 0 done, 1 failed, 2 the user's to fix, 3 a gate said no, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TextIO

import typer

from flywheel.core.errors import FlywheelError, GateRefused, UserError
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.rounds import RoundContext
    from flywheel.store import Workspace

app = typer.Typer(
    help="A video-language data flywheel: annotate, review, pretrain, fine-tune, evaluate, and round again.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
corrections_app = typer.Typer(help="Corrections as files.", no_args_is_help=True, rich_markup_mode=None)
config_app = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(corrections_app, name="corrections")
schedule_app = typer.Typer(help="Rounds at set times.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(schedule_app, name="schedule")

Config = Annotated[Path, typer.Option("--config", help="flywheel.yaml, or the folder that holds it.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override: section.key=value. May be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
HERE = Path("flywheel.yaml")


def _open(config: Path, overrides: list[str] | None) -> Workspace:
    from flywheel.store import Workspace

    return Workspace.open(config, overrides)


def _context(workspace: Workspace) -> RoundContext:
    from flywheel.models.load import check_folder, model_folder
    from flywheel.rounds import RoundContext

    check_folder(model_folder(workspace.config.corpus.model, workspace.root))
    return RoundContext(workspace)


_P = ParamSpec("_P")
_kept: list[TextIO] = []


def _results_alone(command: Callable[_P, None]) -> Callable[_P, None]:
    """Some libraries log to stdout (DeepSpeed does when it is imported); while a command works, stdout is its results' alone."""

    @functools.wraps(command)
    def run(*arguments: _P.args, **options: _P.kwargs) -> None:
        _kept.append(sys.stdout)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                command(*arguments, **options)
        finally:
            _kept.pop()

    return run


def _print(values: Any, as_json: bool, text: str) -> None:
    print(json.dumps(values, indent=2, default=str) if as_json else text, file=_kept[-1] if _kept else sys.stdout)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the workspace will be.")] = Path("."),
    preset: Annotated[str, typer.Option(help="playground (the bundled tiny model) or qwen3-vl-8b.")] = "playground",
) -> None:
    """Write a commented flywheel.yaml."""
    from flywheel.core.config import template
    from flywheel.store import Workspace

    print(Workspace.create(folder, template(preset)))


@app.command()
@_results_alone
def doctor(config: Config = HERE, json_: Json = False) -> None:
    """Check GPU, libraries, database, tracker and disk: what is missing, and the mend."""
    from flywheel.doctor import checks

    found = checks(config if config.exists() else None)
    _print(found, json_, "\n".join(f"{'ok  ' if c['ok'] else 'MISS'} {c['what']}: {c['says']}" for c in found))
    if any(not c["ok"] and c["needed"] for c in found):
        raise typer.Exit(1)


@app.command()
@_results_alone
def ingest(
    sources: Annotated[list[str], typer.Argument(help="Folders, files, JSONL, Parquet, CSV, datasets on disk, tars.")],
    config: Config = HERE, set_: Set = None, limit: Limit = None, json_: Json = False,
) -> None:  # fmt: skip
    """Take videos in: files become clips, or rejected rows with their reason."""
    from flywheel.ingest import ingest as take_in

    workspace = _open(config, set_)
    with workspace.lock():
        result = take_in(workspace, sources, limit=limit)
    _print(
        vars(result), json_,
        f"{result.clips} clips taken in, {result.known} known already, {result.rejected} files rejected"
        + ("; 'flywheel status' lists them." if result.rejected else "."),
    )  # fmt: skip


@app.command()
@_results_alone
def annotate(
    config: Config = HERE, set_: Set = None, limit: Limit = None, dry_run: DryRun = False, json_: Json = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Only clips that were rejected, with other sampling.")] = False,
) -> None:  # fmt: skip
    """Run or resume the annotation of the current round."""
    from flywheel.rounds.conductor import current_round, run_round
    from flywheel.rounds.stages import annotate as write

    workspace = _open(config, set_)
    context = _context(workspace)
    with workspace.lock():
        round = current_round(context)
        todo = len(context.split("train", "anchor")) - workspace.annotations(round=round, kind="caption").height
        if dry_run:
            _print({"round": round, "todo": todo}, json_, f"round {round}: {todo} clips to annotate")
            return
        if limit is not None or retry_failed:
            result = write(context, round, limit, retry_failed)
        else:
            run_round(context, until="annotate")
            result = workspace.stage(round, "annotate")[1]
    _print(
        result,
        json_,
        f"round {round}: {result['annotations']} annotations by M{result['by']}, {result['rejected']} rejected now",
    )


@app.command()
@_results_alone
def serve(
    config: Config = HERE, set_: Set = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    round: Annotated[int | None, typer.Option(min=0, help="The round whose model is served; the champion if left out.")] = None,
) -> None:  # fmt: skip
    """Serve a round's model with vLLM, for annotate.engine openai, until interrupted; adapters are loaded as they are asked for."""
    import signal

    from annotators import serving

    workspace = _open(config, set_)
    context = _context(workspace)
    model, _ = context.checkpoint(workspace.champion() if round is None else round)
    server = serving.start(
        model.resolve(),
        workspace.root,
        port=port,
        host=host,
        options=dict(workspace.config.annotate.options),
        sound=workspace.config.corpus.sound,
    )
    # Asked to end, it ends its server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _print(
            {"url": server.url}, False, f"{server.url} serves {model}. Put it into annotate.servers; Ctrl-C ends it."
        )
        server.process.wait()
        raise FlywheelError(
            f"flywheel serve: the server ended with {server.process.returncode}; {workspace.root}/serve.log says why."
        )
    finally:
        server.stop()


@app.command()
def review(
    config: Config = HERE, set_: Set = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8470,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's want a proxy with TLS before them.")] = "127.0.0.1",
) -> None:  # fmt: skip
    """Serve the review page until interrupted. Who may use it: 'flywheel invite'."""
    from human_refine.serve import serve

    workspace = _open(config, set_)
    serve(workspace, host, port, lambda url: print(f"{url} serves the review page. Ctrl-C ends it.", flush=True))


@app.command()
def invite(
    name: Annotated[str, typer.Option(help="Who is invited; the name stands beside every correction.")],
    role: Annotated[str, typer.Option(help="refiner, or lead.")] = "refiner",
    config: Config = HERE,
    url: Annotated[str, typer.Option(help="Where the page is reached.")] = "http://127.0.0.1:8470",
    json_: Json = False,
) -> None:
    """Print a link with a token for the review page; an earlier link of the same name ends."""
    from human_refine.people import invite as make

    token = make(_open(config, None), name, role)
    link = f"{url.rstrip('/')}/invite/{token}"
    _print({"name": name, "role": role, "link": link, "token": token}, json_, link)


@app.command("round")
@_results_alone
def round_(
    config: Config = HERE,
    set_: Set = None,
    until: Annotated[str | None, typer.Option(help="Last stage to run.")] = None,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Run or resume the current round."""
    _rounds(config, set_, 1, until, dry_run, json_)


@app.command()
@_results_alone
def run(
    config: Config = HERE,
    set_: Set = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 1,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Run several rounds, one after the other."""
    _rounds(config, set_, rounds, None, dry_run, json_)


def _rounds(
    config: Path, overrides: list[str] | None, count: int, until: str | None, dry_run: bool, as_json: bool
) -> None:
    from flywheel.rounds import run_round
    from flywheel.rounds.conductor import current_round, current_stage

    workspace = _open(config, overrides)
    context = _context(workspace)
    if dry_run:
        round = current_round(context)
        stage = current_stage(context, round)
        _print({"round": round, "stage": stage}, as_json, f"would run round {round} from {stage} on")
        return
    refused = ""
    with workspace.lock():
        for _ in range(count):
            result = run_round(context, until=until)  # type: ignore[arg-type]
            _print(result, as_json, result["message"])
            if result.get("verdict", "promoted") != "promoted":
                refused = result["message"]
            if result["state"] != "done":
                break
    if refused:
        raise GateRefused(refused)


@app.command()
@_results_alone
def promote(
    round: Annotated[int, typer.Argument(min=1, help="The round whose model is to be champion.")],
    force: Annotated[str, typer.Option("--force", metavar="REASON", help="Promote whatever the gate says; the reason is recorded.")] = "",
    config: Config = HERE, set_: Set = None, json_: Json = False,
) -> None:  # fmt: skip
    """Put a round's model in force if it passes the gate on today's anchors; exit 3 if not."""
    from flywheel.rounds import champion

    context = _context(_open(config, set_))
    with context.workspace.lock():
        judgement = champion.promote(context, round, force)
    said = (
        {"round": round, "verdict": "promoted", "reason": f"forced: {force}"}
        if judgement is None
        else {"round": round, **judgement.record()}
    )
    _print(said, json_, f"round {round} {said['verdict']}: {said['reason']}")
    if said["verdict"] != "promoted":
        raise GateRefused(f"round {round} {said['verdict']}: {said['reason']}")


@app.command()
@_results_alone
def rollback(
    to: Annotated[int | None, typer.Option(min=0, help="An earlier champion, 0 is the base; the one before this if left out.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    config: Config = HERE, set_: Set = None, json_: Json = False,
) -> None:  # fmt: skip
    """Put the champion before this one back in force: model and data."""
    from flywheel.rounds import champion

    context = _context(_open(config, set_))
    with context.workspace.lock():
        round = champion.rollback(context, reason, to)
    _print({"champion": {"round": round}}, json_, f"champion: {'the base model' if round == 0 else f'round {round}'}")


@app.command()
@_results_alone
def compare(
    a: Annotated[int, typer.Argument(min=0, help="A round; 0 is the base.")],
    b: Annotated[int, typer.Argument(min=0, help="Another.")],
    config: Config = HERE, set_: Set = None, json_: Json = False,
) -> None:  # fmt: skip
    """Two rounds side by side: figures, a paired test on the anchors, the texts that differ most."""
    from flywheel.rounds import champion
    from flywheel.status import comparison_text

    found = champion.compare(_context(_open(config, set_)), a, b)
    _print(found, json_, comparison_text(found))


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Champions before this one, and last rounds, whose weights stay.")] = 2,
    config: Config = HERE, set_: Set = None, dry_run: DryRun = False, json_: Json = False,
) -> None:  # fmt: skip
    """Delete the weights of old rounds that neither the champion nor a rollback needs; records stay."""
    from flywheel.rounds import champion

    context = _context(_open(config, set_))
    with context.workspace.lock():
        gone = champion.prune(context, keep, dry_run=dry_run)
    names = ", ".join(map(str, gone)) or "none"
    _print(
        {"rounds": gone},
        json_,
        f"weights {'that would be' if dry_run else ''} deleted of rounds: {names}".replace("  ", " "),
    )


@corrections_app.command("import")
def corrections_import(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV, Parquet, Label Studio's JSON, WebVTT or SRT.")],
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Take corrections in; bad rows are named and the good ones kept."""
    from human_refine import import_corrections

    workspace = _open(config, set_)
    report = import_corrections(workspace, file)
    for line in report.refused:
        say(line)
    _print(
        vars(report),
        json_,
        f"{report.added} corrections added, {report.known} known already, {len(report.refused)} rows refused",
    )
    if report.refused:
        raise typer.Exit(2)


@corrections_app.command("export")
def corrections_export(
    out: Annotated[Path, typer.Argument(help="File to write; a folder for webvtt and srt.")],
    config: Config = HERE,
    limit: Limit = None,
    form: Annotated[str, typer.Option("--format", help="jsonl, csv, parquet, label-studio, webvtt or srt.")] = "jsonl",
) -> None:
    """Write the texts that wait for a person, to be filled in and imported again."""
    from human_refine import export_queue

    workspace = _open(config, None)
    print(f"{export_queue(workspace, out, limit, form)} rows in {out}")


@corrections_app.command("uses")
def corrections_uses(
    round: Annotated[int | None, typer.Option(min=1, help="Only what this round's model learned from.")] = None,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Which model learned from which correction."""
    from flywheel.status import uses_of

    found = uses_of(_open(config, None), round)
    lines = [
        f"{u['id']} {u['verdict']} by {u['refiner']} of clip {u['clip_id']}: "
        + ("not used yet" if u["round"] is None else f"{u['use']}, M{u['round']} {u['stage']}, weight {u['weight']:g}")
        for u in found
    ]
    _print(found, json_, "\n".join(lines) or "no corrections")


@app.command()
@_results_alone
def gold(
    file: Annotated[Path, typer.Argument(help="Corrections as for 'flywheel corrections import': what an accept or edit makes of a text is right.")],
    by: Annotated[str, typer.Option(help="Who says so.")] = "file",
    config: Config = HERE, set_: Set = None, json_: Json = False,
) -> None:  # fmt: skip
    """Make train clips gold: shown to refiners among the others to see how well they judge, and learned from no more. A reject ends it."""
    from human_refine import import_gold

    report = import_gold(_open(config, set_), file, by)
    for line in report.refused:
        say(line)
    _print(
        vars(report),
        json_,
        f"{report.added} gold texts added, {report.known} known already, {len(report.refused)} rows refused",
    )
    if report.refused:
        raise typer.Exit(2)


@app.command()
def exclude(
    name: Annotated[str, typer.Argument(help="A refiner.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take that one's words in again.")] = False,
    config: Config = HERE,
) -> None:
    """Leave a refiner's words out of all that is learned and measured, and close the page to that one; nothing is deleted."""
    from human_refine.people import exclude as leave_out

    leave_out(_open(config, None), name, reason, undo=undo)
    print(f"{name} counts again" if undo else f"{name} counts no more")


@app.command()
@_results_alone
def export(
    out: Annotated[Path, typer.Option(help="A new folder.")],
    form: Annotated[str, typer.Option("--format", help="llava, messages, hf, webdataset, label-studio or webvtt.")] = "messages",
    round: Annotated[int | None, typer.Option("--round", min=0, help="The round whose data it is; the champion's if left out.")] = None,
    splits: Annotated[str, typer.Option(help="Of train, test and anchor, with commas.")] = "train",
    config: Config = HERE, set_: Set = None, json_: Json = False,
) -> None:  # fmt: skip
    """Take the champion's dataset away, with a card; the same champion gives the same bytes."""
    from flywheel.rounds.export import export as take_away

    context = _context(_open(config, set_))
    found = take_away(context, out, form, round=round, splits=tuple(s.strip() for s in splits.split(",")))
    sources = ", ".join(f"{n} by {source}" for source, n in sorted(found["sources"].items()))
    _print(found, json_, f"{found['clips']} clips of round {found['round']} in {out} ({sources})")


@app.command()
@_results_alone
def takedown(
    clips: Annotated[list[str], typer.Argument(help="Ids of clips, or paths of their files.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    keep_exports: Annotated[bool, typer.Option("--keep-exports", help="Name the datasets that hold them, and leave them.")] = False,
    config: Config = HERE, set_: Set = None, json_: Json = False,
) -> None:  # fmt: skip
    """Remove clips and all that is on record of them, datasets that hold them too; says where they were used."""
    from flywheel.rounds.takedown import take_down

    context = _context(_open(config, set_))
    with context.workspace.lock():
        found = take_down(context, clips, reason, keep_exports=keep_exports)
    lines = [
        f"{len(found['clips'])} clips taken down: "
        + ", ".join(f"{n} {kind}" for kind, n in found["removed"].items() if n)
    ]
    lines += [f"M{u['round']} {u['use']} {u['clip_id']} in {u['stage']}" for u in found["learned"]]
    lines += [f"{'deleted' if found['exports_deleted'] else 'still holds them'}: {e}" for e in found["exports"]]
    lines += [f"not ours to delete: {f}" for f in found["files"]]
    _print(found, json_, "\n".join(lines))


@app.command("move-database")
def move_database(
    url: Annotated[str, typer.Argument(help="An empty PostgreSQL database, postgresql://user@host/name.")],
    config: Config = HERE,
    set_: Set = None,
) -> None:
    """Take the workspace's database to another place; nothing is lost, and the old one can't be used by mistake."""
    workspace = _open(config, set_)
    with workspace.lock():
        count = workspace.move_database(url)
    print(f"{count} rows moved. Write this into flywheel.yaml, under store:\n  database: {url}")


@app.command()
def status(config: Config = HERE, set_: Set = None, json_: Json = False) -> None:
    """Where the workspace stands."""
    from flywheel.status import status_of, text_of

    found = status_of(_open(config, set_))
    _print(found, json_, text_of(found))


@app.command()
def show(
    clip: Annotated[str, typer.Argument(help="Id of a clip, or its first digits.")],
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """A clip's texts round by round: who or what made each."""
    from flywheel.status import history_of, history_text

    found = history_of(_open(config, None), clip)
    _print(found, json_, history_text(found))


@app.command()
@_results_alone
def report(
    round: Annotated[int | None, typer.Argument(help="A round; the last one that has figures if left out.")] = None,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Write the round's report page and print where it is."""
    from flywheel.rounds.conductor import figures
    from flywheel.rounds.report import write_report

    workspace = _open(config, None)
    context = _context(workspace)
    known = workspace.rounds()
    chosen = round if round is not None else (known[-1] if known else 0)
    if round is not None and round not in known:
        raise UserError(f"report: round {round} never began. There are {', '.join(map(str, known)) or 'none'}.")
    said = [figures(context, r) for r in range(chosen + 1)]
    folder = write_report(context, said, chosen)
    _print(said[-1], json_, str(folder / "report.html"))


@schedule_app.command("start")
def schedule_start(
    cron: Annotated[str, typer.Option(help="Minute hour day month weekday; schedule.cron if left out.")] = "",
    config: Config = HERE,
    set_: Set = None,
) -> None:
    """Run rounds at their times, in the foreground, until asked to end: for a service manager."""
    import signal

    from flywheel.rounds.schedule import Times, keep_going, zone_of

    workspace = _open(config, set_)
    settings = workspace.config.schedule
    if not (cron or settings.cron):
        raise UserError("schedule: no times. Write schedule.cron into flywheel.yaml, or give --cron '0 2 * * *'.")
    times = Times(cron or settings.cron, zone_of(settings.timezone))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keep_going(_context(workspace), times)


@schedule_app.command("write")
def schedule_write(
    kind: Annotated[str, typer.Argument(help="systemd, crontab, kubernetes, airflow or prefect.")],
    cron: Annotated[str, typer.Option(help="Minute hour day month weekday; schedule.cron if left out.")] = "",
    config: Config = HERE, set_: Set = None,
) -> None:  # fmt: skip
    """Print what makes another scheduler run the rounds."""
    from flywheel.formats.schedules import write
    from flywheel.rounds.schedule import Times, zone_of

    workspace = _open(config, set_)
    line = cron or workspace.config.schedule.cron or "0 2 * * *"
    Times(line, zone_of(workspace.config.schedule.timezone))
    print(write(kind, line, workspace.root, sys.executable, workspace.config.schedule.timezone), end="")


@app.command()
def dashboard(
    config: Config = HERE,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """MLflow's own pages on the workspace's tracking store."""
    from flywheel.store.tracking import Tracker

    workspace = _open(config, None)
    tracker = Tracker(workspace)
    if left := tracker.send_spooled():
        say(f"dashboard: {left} figures still wait for the tracker to answer")
    uri = tracker.tracking_uri()
    view = tracker.comparison()
    if uri.startswith("http"):
        print(f"{uri.rstrip('/')}/{view}")
        if view:
            print(f"{uri.rstrip('/')}/{tracker.comparison('ARTIFACT')}")
        return
    if not (workspace.root / "mlflow.db").exists():
        raise UserError(f"dashboard: {workspace.root} has no tracked round yet. Run 'flywheel round' first.")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    arguments = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1",
                 "--default-artifact-root", (workspace.root / "mlartifacts").as_uri(), "--host", host, "--port", str(port)]  # fmt: skip
    say(f"The rounds compared: http://{host}:{port}/{view}")
    if view:
        say(f"Their texts side by side: http://{host}:{port}/{tracker.comparison('ARTIFACT')}")
    os.execve(sys.executable, arguments, environment)


@app.command()
def playground(
    folder: Annotated[Path, typer.Argument(help="Where to write corpus/ and oracle.parquet.")],
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
    num_clips: Annotated[int, typer.Option(help="Clips to render.")] = 800,
    noise: Annotated[float, typer.Option(help="Share of transcripts with noise.")] = 0.5,
) -> None:
    """Render the bundled corpus: real MP4 files with noisy transcripts."""
    from flywheel.playground import write_playground

    write_playground(folder, seed=seed, num_clips=num_clips, noise_rate=noise)
    print(folder / "corpus")


@app.command()
@_results_alone
def demo(
    out: Annotated[Path, typer.Option(help="Workspace folder.")] = Path("flywheel-demo"),
    seed: Annotated[int, typer.Option(help="Of the corpus and the refiner.")] = 0,
    noise: Annotated[float, typer.Option(help="Share of transcripts with noise.")] = 0.5,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small corpus, two short rounds: shows the path, not the gain.")
    ] = False,
    json_: Json = False,
) -> None:
    """The whole wheel on the bundled corpus."""
    from flywheel.demo import run_demo, table, where

    summary = run_demo(out, seed=seed, noise=noise, quick=quick)
    _print(summary, json_, table(summary))
    say(where(summary, out))


@config_app.command("template")
def config_template(preset: Annotated[str, typer.Option()] = "playground") -> None:
    """Print a commented config."""
    from flywheel.core.config import template

    print(template(preset), end="")


@config_app.command("validate")
def config_validate(config: Config = HERE, set_: Set = None) -> None:
    """Check a config; exit 2 and one line where it is wrong."""
    from flywheel.core.config import load_config

    load_config(config / "flywheel.yaml" if config.is_dir() else config, set_)
    print("valid")


@config_app.command("schema")
def config_schema() -> None:
    """Print the config's JSON schema."""
    from flywheel.core.config import Config as Model

    print(json.dumps(Model.model_json_schema(), indent=2))


@config_app.command("show")
def config_show(config: Config = HERE, set_: Set = None) -> None:
    """Print the resolved values."""
    import yaml

    from flywheel.core.config import load_config

    loaded = load_config(config / "flywheel.yaml" if config.is_dir() else config, set_)
    print(yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False), end="")


@config_app.command("losses")
def config_losses() -> None:
    """List the registered losses."""
    from noise_control import losses

    print("\n".join(losses.names()))


def main() -> None:
    """Entry point of the console script: errors become one line and an exit code."""
    warnings.filterwarnings("ignore")
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("TRANSFORMERS_VERBOSITY", "error"),
                        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")):  # fmt: skip
        os.environ.setdefault(name, value)
    try:
        app(standalone_mode=True)
    except FlywheelError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; run the same command to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        say(
            f"{error.filename or 'flywheel'}: {error.strerror or error}. Nothing already written is lost; mend this and run the same command."
        )
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The command line: arguments, one call, print. A command imports what takes long to import.

Results go to stdout, progress and log to stderr. Exit 0 done, 1 failed, 2 the user's to fix, 3 a gate said no,
130 interrupted. With ``--json`` an error is printed too: ``{"error": {"code", "message", "exit"}}``.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from flywheel import __version__
from flywheel.cli import (
    benchmark,
    browsing,
    config,
    curation,
    data,
    home,
    inspection,
    narration,
    plan,
    prompts,
    repair,
    retrieval,
    review,
    rounds,
    schedule,
    search,
    sources,
    speech,
    start,
)
from flywheel.cli._index import Index
from flywheel.cli._shared import command, failure_of, keep_stdout_for_results, print_text, remember_wishes
from flywheel.core.errors import FlywheelError, GateRefused
from flywheel.core.progress import say

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def _group(help: str) -> typer.Typer:
    return typer.Typer(
        help=help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


app = typer.Typer(
    cls=Index,
    help="A video-language data flywheel: annotate, review, pretrain, fine-tune, evaluate, and round again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Commands take them over.
    context_settings={"help_option_names": ["-h", "--help"]},
)
corrections_app = _group("Import and export corrections.")
config_app = _group("The configuration.")
prompts_app = _group("What models are asked.")
sources_app = _group("The folders that clips come from.")
benchmark_app = _group("Questions about videos: benchmarks that are built, certified and asked of a model.")
schedule_app = _group("Rounds at set times.")


def _print_version(asked: bool) -> None:
    if asked:
        print_text(f"flywheel {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of no command."""


#: How ``flywheel --help`` lists them is in :mod:`flywheel.cli._index`. The two that serve pages print their address
#: themselves.
_COMMANDS = (
    (app, "init", command(start.init)),
    (app, "download", command(start.download)),
    (app, "doctor", command(inspection.doctor)),
    (app, "ingest", command(data.ingest)),
    (app, "transcribe", command(speech.transcribe)),
    (app, "repair", command(repair.repair)),
    (app, "curate", command(curation.curate)),
    (app, "narrate", command(narration.narrate)),
    (app, "index", command(search.index)),
    (app, "search", command(search.search)),
    (app, "annotate", command(rounds.annotate)),
    (app, "serve", command(rounds.serve)),
    (app, "review", review.review),
    (app, "open", home.open_),
    (app, "invite", command(review.invite)),
    (app, "round", command(rounds.round_)),
    (app, "run", command(rounds.run)),
    (app, "plan", command(plan.plan)),
    (app, "promote", command(rounds.promote)),
    (app, "rollback", command(rounds.rollback)),
    (app, "compare", command(rounds.compare)),
    (app, "prune", command(rounds.prune)),
    (app, "gold", command(review.gold)),
    (app, "exclude", command(review.exclude)),
    (app, "export", command(data.export)),
    (app, "takedown", command(data.takedown)),
    (app, "resplit", command(data.resplit)),
    (app, "move-database", command(data.move_database)),
    (app, "status", command(inspection.status)),
    (app, "show", command(inspection.show)),
    (app, "clips", command(browsing.clips)),
    (app, "rejects", command(browsing.rejects)),
    (app, "report", command(inspection.report)),
    (app, "dashboard", inspection.dashboard),
    (app, "playground", command(data.playground)),
    (app, "demo", command(rounds.demo)),
    (corrections_app, "import", command(review.corrections_import)),
    (corrections_app, "export", command(review.corrections_export)),
    (corrections_app, "uses", command(review.corrections_uses)),
    (config_app, "template", command(config.template)),
    (config_app, "validate", command(config.validate)),
    (config_app, "schema", command(config.schema)),
    (config_app, "show", command(config.show)),
    (config_app, "explain", command(config.explain)),
    (config_app, "losses", command(config.losses)),
    (config_app, "migrate", command(config.migrate)),
    (sources_app, "list", command(sources.list_)),
    (sources_app, "remove", command(sources.remove)),
    (benchmark_app, "run", command(benchmark.run)),
    (benchmark_app, "build", command(benchmark.build)),
    (benchmark_app, "certify", command(benchmark.certify)),
    (benchmark_app, "export", command(benchmark.export)),
    (benchmark_app, "instruct", command(benchmark.instruct)),
    (benchmark_app, "retrieve", command(retrieval.retrieve)),
    (benchmark_app, "formats", command(benchmark.formats)),
    (prompts_app, "list", command(prompts.list_)),
    (prompts_app, "show", command(prompts.show)),
    (prompts_app, "copy", command(prompts.copy)),
    (prompts_app, "try", command(prompts.try_)),
    (schedule_app, "start", command(schedule.start)),
    (schedule_app, "write", command(schedule.write)),
)
for _app, _name, _function in _COMMANDS:
    _app.command(_name)(_function)
app.add_typer(corrections_app, name="corrections")
app.add_typer(config_app, name="config")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(prompts_app, name="prompts")
app.add_typer(sources_app, name="sources")
app.add_typer(schedule_app, name="schedule")


def main() -> None:
    """Run the command that the arguments name: errors become one line and an exit code."""
    warnings.filterwarnings("ignore")
    remember_wishes()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    keep_stdout_for_results()
    try:
        app(prog_name="flywheel", standalone_mode=True)
    except BrokenPipeError:
        sys.exit(1)
    except GateRefused as error:
        # Its verdict is the command's result, and printed already; beside JSON it is said in words too.
        if "--json" in sys.argv[1:]:
            say(str(error))
        sys.exit(error.exit_code)
    except (FlywheelError, OSError, KeyboardInterrupt) as error:
        failure = failure_of(error)
        say(failure.message)
        sys.exit(failure.exit)

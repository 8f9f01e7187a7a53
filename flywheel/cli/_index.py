"""The list of ``flywheel --help``: commands by what one wants to do, each with a line that fits a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from flywheel.cli._shared import print_json

#: Heading -> command -> its line; what the command's own help says at length.
INDEX: dict[str, dict[str, str]] = {
    "Start": {
        "open": "Open the workspace's home page in the browser.",
        "init": "Make a workspace: a folder with a flywheel.yaml.",
        "download": "Download a model by its hub id.",
        "doctor": "Check that this machine has what rounds need.",
        "demo": "See three rounds on a bundled corpus, offline.",
        "playground": "Render the bundled corpus as MP4 files.",
        "config": "Show, explain and check the configuration.",
    },
    "Data": {
        "ingest": "Add videos, with the texts that come with them.",
        "transcribe": "Write down what is said in clips without words.",
        "repair": "Edit clips' sounds where that helps.",
        "narrate": "Tell long videos shot by shot and as a whole.",
        "curate": "Drop clips whose sound does not fit the picture.",
        "clips": "List clips; search their captions.",
        "sources": "List the folders of clips; leave one out.",
        "index": "Make the index that search needs.",
        "search": "Find clips by words, a video or a sound.",
        "rejects": "List what failed; retry or dismiss it.",
        "show": "Show a clip's texts and who wrote each.",
    },
    "Rounds": {
        "round": "Run or resume the current round.",
        "run": "Run several rounds, one after the other.",
        "plan": "Estimate time and cost of a larger round.",
        "prompts": "List, show, copy and try what models are asked.",
        "annotate": "Only write this round's captions.",
        "status": "Show where the workspace stands.",
        "report": "Write a round's report as one HTML page.",
        "dashboard": "Open MLflow on the workspace's rounds.",
        "benchmark": "Ask a model a benchmark's questions; build one.",
        "compare": "Compare two rounds, with a paired test.",
        "promote": "Put a round's model in use if it is better.",
        "rollback": "Go back to the model and data before.",
        "schedule": "Run rounds at set times.",
    },
    "People": {
        "review": "Serve the page where people correct captions.",
        "invite": "Make a link to that page for one person.",
        "corrections": "Import and export corrections as files.",
        "gold": "Add clips that check how reviewers judge.",
        "exclude": "Ignore a reviewer and revoke their link.",
    },
    "Ship": {
        "export": "Export the dataset of the model in use.",
        "serve": "Serve a round's model with vLLM.",
    },
    "Care": {
        "takedown": "Remove clips and all that is on record of them.",
        "resplit": "Draw train, test and anchor clips anew.",
        "prune": "Delete weights of old rounds.",
        "move-database": "Move the database to PostgreSQL.",
    },
}


#: The class of what the parser of arguments raises: an option that is missing, unknown, or of another type.
_WrongUsage: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "UsageError")


class Index(TyperGroup):
    """The group of all commands, listed under the headings of :data:`INDEX`; what has none comes last."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments; with ``--json`` among them what is wrong with them is printed as JSON too."""
        with _usage_as_json():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that they name, whose own arguments are read here."""
        with _usage_as_json():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each heading with its commands, all in one column."""
        listed = {name for lines in INDEX.values() for name in lines}
        others = {name: self.commands[name].get_short_help_str(55) for name in self.commands if name not in listed}
        width = max(map(len, self.commands))
        for heading, lines in {**INDEX, "More": others}.items():
            rows = [(name.ljust(width), line) for name, line in lines.items() if name in self.commands]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the list."""
        order = [name for lines in INDEX.values() for name in lines]
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else len(order))


@contextlib.contextmanager
def _usage_as_json() -> Iterator[None]:
    """Print as JSON what is wrong with the arguments, where they ask for JSON; it passes."""
    try:
        yield
    except _WrongUsage as error:
        if "--json" in sys.argv[1:]:
            print_json({"error": {"code": "usage", "message": error.format_message(), "exit": error.exit_code}})
        raise

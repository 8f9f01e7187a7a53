"""The command that writes down what is said."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

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
    say_what_comes_next,
)
from flywheel.core.errors import FlywheelError
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.ingest.speech import TranscribeResult


def transcribe(
    limit: Limit = None,
    dry_run: DryRun = False,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Write down what is said in clips that have sound and no words, with times; --limit counts files."""
    from flywheel.ingest.speech import plan
    from flywheel.ingest.speech import transcribe as listen

    workspace = open_workspace(config, set_)
    if dry_run:
        planned = plan(workspace, limit=limit)
        text = f"{planned.files} files would be listened to ({planned.hours:.1f} h), for {planned.clips} clips"
        print_result(asdict(planned), json_, f"{text}; {planned.without_sound} files have no sound")
        return
    with workspace.lock():
        result = listen(workspace, limit=limit)
    for line in result.first_rejected:
        say(f"rejected: {line}")
    for line in result.notes:
        say(f"note: {line}")
    print_result(asdict(result), json_, _transcribed(result))
    say_what_comes_next(workspace, config, json_)
    if result.rejected and not (result.files or result.shared):
        raise typer.Exit(FlywheelError.exit_code)


def _transcribed(result: TranscribeResult) -> str:
    languages = ", ".join(f"{count} {language}" for language, count in result.languages.items())
    lines = [
        f"{result.files} files listened to" + (f" ({languages})" if languages else "") + f", {result.no_speech} of "
        f"them without speech; {result.clips} clips have {result.words} words by {result.source}",
    ]
    counts = {
        "clips without speech": result.silent_clips,
        "files without sound": result.without_sound,
        "segments dropped as no speech": result.dropped,
        "files rejected": result.rejected,
    }
    return as_lines([*lines, *(f"{count} {what}" for what, count in counts.items() if count)])

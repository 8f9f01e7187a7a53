"""The command that tells what a round of so many clips takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli._shared import HERE, Config, Json, Set, open_workspace, print_result, say_next
from flywheel.core.errors import UserError

if TYPE_CHECKING:
    from flywheel.rounds.plan import Plan, Run


def plan(
    clips: Annotated[
        int | None, typer.Option("--clips", min=1, help="Clips of the round; those of the workspace if left out.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Accelerators that it runs on.")] = 1,
    measured: Annotated[
        list[Path] | None,
        typer.Option("--measured", help="Another workspace, or JSONL of measured stages, to learn from. Repeatable."),
    ] = None,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Estimate what a round takes: time, accelerators, money, and the bottleneck; from rounds that were measured."""
    from flywheel.rounds.measured_runs import runs_of
    from flywheel.rounds.plan import planned
    from flywheel.rounds.progress import current_round, order_of

    workspace = open_workspace(config, set_)
    settings = workspace.config
    clips = clips or workspace.count("clips")
    if not clips:
        raise UserError("plan: there are no clips yet. Say for how many: --clips N.")
    runs = [*runs_of(workspace), *(run for path in measured or () for run in _runs_at(path))]
    stages = [stage for stage in order_of(workspace, current_round(workspace)) if stage != "review"]
    found = planned(
        runs,
        stages,
        clips,
        gpus,
        decoders=settings.annotate.decoders,
        price_per_hour=settings.main.price_per_hour,
    )
    if not found.stages:
        raise UserError("plan: no stage was measured. Run a round of some clips first: flywheel round")
    print_result(found.record(), json_, _table(found))
    if not json_:
        say_next("flywheel round  # what it takes is on record for the next plan", config=config)


def _runs_at(path: Path) -> Iterator[Run]:
    """The measured stages of a workspace, or of lines of JSON. Raises UserError for what is neither."""
    from flywheel.rounds.measured_runs import runs_of
    from flywheel.rounds.plan import Run

    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        yield from runs_of(open_workspace(path))
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--measured {path}: can't be read ({error}). Name a workspace, or a file of JSONL.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _checked(Run(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"--measured {path}: line {number} is no measured stage ({error}). "
                'Lines are such as {"stage": "annotate", "clips": 2000, "seconds": 61.5, "gpus": 1}.'
            ) from error


def _checked(run: Run) -> Run:
    """The run as it is. Raises ValueError for a value that is of another type, or can't be."""
    if not isinstance(run.stage, str):
        raise ValueError(f"stage is {run.stage!r}, and must be a name")
    for name in ("clips", "gpus"):
        value = getattr(run, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}, and must be a whole number of at least 1")
    for name in ("seconds", "decode_s", "money"):
        value = getattr(run, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}, and must be a number of at least 0")
    return run


def _table(plan: Plan) -> str:
    record = plan.record()
    lines = [f"A round of {plan.clips:,} clips on {plan.gpus} accelerator(s), without the time that people take:", ""]
    # Where no price is set and nothing cost anything, money is not known to be none.
    priced = record["money"] > 0
    money = f"{'money':>10}" if priced else ""
    lines.append(f"{'stage':<12}{'hours':>10}{'low':>10}{'high':>10}{'s per 1,000':>14}{money}  bound by")
    for stage in plan.stages:
        hours = "".join(f"{value / 3600:>10.2f}" for value in (stage.seconds, stage.low, stage.high))
        each = stage.seconds / plan.clips * 1000
        money = f"{stage.money:>10.2f}" if priced else ""
        lines.append(f"{stage.stage:<12}{hours}{each:>14.1f}{money}  {stage.bound_by}")
    hours = "".join(f"{record[name] / 3600:>10.2f}" for name in ("seconds", "low", "high"))
    money = f"{record['money']:>10.2f}" if priced else ""
    lines.append(f"{'all':<12}{hours}{record['seconds'] / plan.clips * 1000:>14.1f}{money}")
    slowest = plan.bottleneck
    lines += ["", f"Bottleneck: {slowest.stage} ({slowest.bound_by})."]
    lines += [f"Not known: {doubt}." for doubt in plan.unknown]
    return "\n".join(lines)

"""Several processes annotate one round: what comes before and after is one's alone, the texts are written by all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.rounds.conductor import baseline, check_before, run_round
from flywheel.rounds.context import RoundContext
from flywheel.rounds.progress import DONE, current_round, order_of, stage_began
from flywheel.rounds.stages.annotate import write_together
from flywheel.store import Workspace
from flywheel.store.claims import forget, parts_done

#: How often a process that waits for others looks again, in seconds.
_LOOK_EVERY_S = 0.5
_STAGE = "annotate"


def join(workspace: Workspace) -> tuple[int, int]:
    """Annotate the current round with whoever else joined, on this host or another; returns the round and how many
    texts this process wrote.

    The first one does what comes before (the base's evaluation, stages before annotation) while the others wait; then
    all write texts; one ends the stage. A process that dies is made up for by the others, and a later one goes on where
    all died. While another command holds the workspace, this waits for it.
    """
    check_before(RoundContext(workspace))
    round = current_round(workspace)
    with _alone(workspace, unless=lambda: _has_begun(workspace, round)) as is_ours:
        if is_ours:
            _begin(workspace, round)
    # Anew: what was read before may have been changed by whoever began the stage.
    context, shared_at = RoundContext(workspace), time.monotonic()
    if not _is_done(workspace, round):
        with _shared(workspace):
            # Others may have ended it while this waited.
            if not _is_done(workspace, round):
                context.did_together = write_together(context, round)
    with _alone(workspace, unless=lambda: _is_done(workspace, round)) as is_ours:
        if is_ours:
            workspace.set_stage(round, _STAGE, "running", {}, time.monotonic() - shared_at)
            context.num_processes = max(1, len(parts_done(workspace, f"{round}:")))
            run_round(context, until=_STAGE)
    # Also where the one that ended the stage was killed before it came here.
    forget(workspace, f"{round}:")
    return round, sum(made.written for made in context.did_together.values())


def _begin(workspace: Workspace, round: int) -> None:
    """Do what comes before the stage, and begin it."""
    context, order = RoundContext(workspace), order_of(workspace, round)
    baseline(context)
    if before := order[: order.index(_STAGE)]:
        outcome = run_round(context, until=before[-1])
        if outcome["state"] != "stopped":
            raise UserError(f"annotate --join: {outcome['message']}")
    workspace.begin_round(round, order)
    workspace.set_stage(round, _STAGE, "running", {})
    stage_began(workspace, round, _STAGE)
    say(f"round {round}: {_STAGE}, together with whoever joins")


def _has_begun(workspace: Workspace, round: int) -> bool:
    return workspace.stage(round, _STAGE)[0] != "pending"


def _is_done(workspace: Workspace, round: int) -> bool:
    return workspace.stage(round, _STAGE)[0] == DONE


@contextmanager
def _alone(workspace: Workspace, *, unless: Callable[[], bool]) -> Iterator[bool]:
    """Hold the workspace alone, as soon as nobody else holds it; False, and not held, once ``unless`` is so."""
    with ExitStack() as held:
        told = False
        while not unless():
            try:
                held.enter_context(workspace.lock())
            except UserError as error:
                told = _wait(error, told)
                continue
            # Whoever held it before may have done it.
            if unless():
                break
            yield True
            return
        held.close()
        yield False


@contextmanager
def _shared(workspace: Workspace) -> Iterator[None]:
    """Share the workspace, as soon as nobody holds it alone."""
    with ExitStack() as held:
        told = False
        while True:
            try:
                held.enter_context(workspace.share())
                break
            except UserError as error:
                told = _wait(error, told)
        yield


def _wait(error: UserError, told: bool) -> bool:
    """Wait before another try to hold the workspace, and say so once. Raises the error where it is another."""
    if error.code != "busy":
        raise error
    if not told:
        say(f"annotate --join: waiting ({error})")
    time.sleep(_LOOK_EVERY_S)
    return True

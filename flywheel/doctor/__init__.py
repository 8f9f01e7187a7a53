"""Checks what this machine and a workspace have and lack for rounds, and how to fix each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.core.config import load_config
from flywheel.doctor.check import Check
from flywheel.doctor.machine import machine
from flywheel.doctor.workspace import root_of, workspace

if TYPE_CHECKING:
    from flywheel.rounds.memory_plan import Plan

__all__ = ["Check", "checks", "give_up", "plan", "repair"]


def checks(config: Path | None) -> list[Check]:
    """Checks of libraries, GPU, FFmpeg and disk; with a config of its models, prompts, servers and records too."""
    if config is None:
        return machine(Path.cwd())
    return [*machine(root_of(config)), *workspace(config)]


def plan(config: Path, device_gib: float | None = None, devices: int | None = None) -> Plan:
    """What training and engine will take of this machine's devices, or of ``devices`` with ``device_gib`` each.

    Raises UserError.
    """
    from flywheel.rounds.memory_plan import plan_of

    loaded = load_config(config / "flywheel.yaml" if config.is_dir() else config)
    return plan_of(loaded, root_of(config), device_gib, devices)


def repair(config: Path) -> list[str]:
    """Bring the database to what the records say; returns what was done, in lines."""
    from flywheel.store.repair import repair_database

    return repair_database(config).lines


def give_up(config: Path, names: Sequence[str]) -> list[str]:
    """Go on without the rows of these damaged shards; returns a line for each.

    Raises UserError for one that is none, or whole.
    """
    from flywheel.store import Workspace
    from flywheel.store.health import give_up

    workspace = Workspace.open(config)
    try:
        with workspace.lock(tidy=False):
            shards = [give_up(workspace, name) for name in names]
    finally:
        workspace.database.close()
    again = "Run the command that made them again"
    return [
        f"{s.name}: given up, {s.num_rows} {s.kind}; what is left of it is in lost/damaged/. {again}." for s in shards
    ]

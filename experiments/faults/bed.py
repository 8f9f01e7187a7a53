"""Workspaces to do harm to, in four states, and what must hold of one whatever happened to it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from experiments.faults.commands import run
from flywheel.store import Workspace

_SETTINGS: dict[str, Any] = {
    "corpus": {"test_share": 0.2, "anchor_share": 0.4},
    "models": {"main": {"engine": "fake"}},
    "annotate": {"commit_rows": 4, "batch_size": 4},
    "pretrain": {"num_steps": 0},
    "finetune": {"num_steps": 0, "min_corrections": 1},
    "evaluate": {"resamples": 100, "agreement_pairs": 0, "diversity_tokens": 10},
    "gate": {"min_anchors": 2},
    "tracking": {"enabled": False},
}
_numbers = count()


class Bed:
    """``empty`` (a config and videos beside it), ``ingested``, ``annotated``, and ``done``: round 1 at its end.

    ``trained`` is as ``done``, with weights of its own that are champion; it is made when it is first asked for.
    """

    def __init__(self, folder: Path, num_clips: int = 16) -> None:
        self.folder = folder
        self.corpus = folder / "playground" / "corpus"
        if not (folder / "beds" / "done").exists():
            self._make(num_clips)
        rows = _texts(folder / "beds" / "annotated")
        self.corrections = folder / "corrections.jsonl"
        said = [
            {"annotation_id": i, "verdict": "edit", "text": f"a right text {i[:6]}", "refiner": "ann"} for i in rows
        ]
        self.corrections.write_text("".join(json.dumps(row) + "\n" for row in said))
        self.clips = _clips(folder / "beds" / "ingested")

    def _make(self, num_clips: int) -> None:
        _must("playground", self.folder / "playground", "--num-clips", num_clips, "--seed", 7)
        Workspace.create(self.folder / "beds" / "empty", yaml.safe_dump(_SETTINGS))
        self._next("empty", "ingested", "ingest", self.corpus)
        self._next("ingested", "annotated", "annotate")
        self._next("annotated", "done", "round")

    def copy(self, state: str) -> Path:
        """A new copy of a workspace in this state."""
        if state == "trained" and not (self.folder / "beds" / state).exists():
            self._train()
        out = self.folder / "tried" / f"{next(_numbers):04d}"
        shutil.copytree(self.folder / "beds" / state, out)
        return out

    def _train(self) -> None:
        out = self.folder / "beds" / "being trained"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.folder / "beds" / "annotated", out)
        settings = ("pretrain.num_steps=2", "pretrain.batch_size=2", "loss.name=mle")
        _must("round", "--config", out, *(part for value in settings for part in ("--set", value)))
        _must("promote", 1, "--force", "a try", "--config", out)
        out.rename(self.folder / "beds" / "trained")

    def _next(self, before: str, after: str, *arguments: object) -> None:
        out = self.folder / "beds" / after
        shutil.copytree(self.folder / "beds" / before, out)
        _must(*arguments, "--config", out)


def _must(*arguments: object) -> None:
    outcome = run(*arguments)
    if outcome.code not in (0, 3):
        raise SystemExit(f"{' '.join(map(str, arguments))}: {outcome.text}")


def _texts(root: Path) -> list[str]:
    workspace = Workspace.open(root)
    try:
        return list(workspace.annotations(round=1, kind="caption")["id"])
    finally:
        workspace.database.close()


def _clips(root: Path) -> list[str]:
    workspace = Workspace.open(root)
    try:
        return list(workspace.clips()["id"])
    finally:
        workspace.database.close()


@contextmanager
def small_disk(folder: Path, mib: int = 24) -> Iterator[Path]:
    """A file system of its own; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def problems(root: Path, *overrides: str) -> list[str]:
    """What does not hold of a workspace.

    The database is whole, every key lies in its shard and once, each text's generation is there, no committed shard is
    missing or damaged, and nothing that could be data was deleted.
    """
    if not overrides:
        with closing(sqlite3.connect(root / "flywheel.db")) as connection:
            if (said := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                return [f"database: {said}"]
    workspace = Workspace.open(root, list(overrides))
    try:
        return list(_problems(workspace))
    finally:
        workspace.database.close()


def _problems(workspace: Workspace) -> Iterator[str]:
    for kind in ("clips", "generations", "annotations", "rejected", "examples", "noise_signals"):
        ids = workspace.records.read(kind, columns=["id"])["id"].to_list()
        keys = workspace.records.keys_from(kind, "")
        if twice := [i for i, n in Counter(ids).items() if n > 1]:
            yield f"{kind}: {len(twice)} rows twice"
        if set(ids) != set(keys):
            yield f"{kind}: {len(set(keys) ^ set(ids))} keys without a row, or rows without a key"
        if workspace.count(kind) != len(ids):
            yield f"{kind}: {workspace.count(kind)} rows counted, {len(ids)} there"
    made = set(workspace.generations()["id"])
    used = set(workspace.annotations().filter(pl.col("generation_id") != "")["generation_id"])
    if used - made:
        yield f"annotations: {len(used - made)} without their generation"

"""The wheel on the playground: renders the corpus, turns the rounds with a simulated refiner, says what came of it.

Only this package reads the oracle: to measure, and to let the refiner, who stands in for a person watching the clip,
write what is true. The rounds see videos and transcripts alone.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.demo.ceiling import ceiling
from flywheel.demo.oracle import Oracle, test_scores, transcript_scores
from flywheel.demo.printed import table, verdict, where
from flywheel.demo.ready import ready_folder, ready_summary
from flywheel.demo.refiner import refine
from flywheel.demo.sizes import FULL, QUICK, Size
from flywheel.demo.summary import summary_of
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import baseline
from flywheel.rounds.progress import current_round
from flywheel.store import Workspace
from flywheel.store.objects import url_of
from flywheel.store.opening import opened

__all__ = [
    "FULL",
    "QUICK",
    "Oracle",
    "Size",
    "ready_folder",
    "ready_summary",
    "run_demo",
    "table",
    "test_scores",
    "transcript_scores",
    "verdict",
    "where",
]


def run_demo(
    place: Path,
    *,
    seed: int,
    noise: float,
    size: Size = FULL,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    people: bool = True,
) -> dict[str, Any]:
    """Run or resume the demo in a folder, or at the URL of an object store; returns what ``summary.json`` holds.

    ``settings`` come on top of the size's, and ``people`` False leaves the refiner out. Raises UserError where the
    place holds a demo with another seed or noise.
    """
    started = time.monotonic()
    out = _begin(place, seed, noise, size, settings or {})
    workspace = Workspace.open(out)
    with workspace.lock():
        if workspace.meta("demo_ingested") is None:
            ingest(workspace, [str(out / "corpus")])
            workspace.set_meta("demo_ingested", "yes")
        context, oracle = RoundContext(workspace), Oracle(out / "oracle.parquet")
        # All of it is published at the end, with what the oracle says: of two short rounds nobody looks before.
        publishes = not size.quick
        baseline(context, publishes=publishes)
        while (round := current_round(context.workspace)) <= size.num_rounds:
            run_round(context, until="annotate", publishes=publishes)
            if people:
                refine(context, oracle, size, round, seed)
            run_round(context, publishes=publishes)
        summary = summary_of(context, oracle, size.num_rounds)
        if size.ceiling:
            summary["ceiling"] = ceiling(context, oracle)
        elapsed = float(workspace.meta("demo_wall_s") or 0) + time.monotonic() - started
        workspace.set_meta("demo_wall_s", str(elapsed))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        summary = {"seed": seed, "noise": noise, "wall_s": elapsed, "peak_rss_gib": used, **summary}
        with written_whole(out / "summary.json") as file:
            file.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _begin(place: Path, seed: int, noise: float, size: Size, settings: Mapping[str, Mapping[str, Any]]) -> Path:
    """Make the workspace and its corpus, or find them there; returns its folder on this host."""
    identity = json.dumps({"seed": seed, "noise": noise, "quick": size.quick})
    out = place if url_of(place) is None else _folder_of(place, size, settings)
    mark = out / "demo.json"
    if mark.exists() and mark.read_text() != identity:
        raise UserError(f"{place}: holds another demo ({mark.read_text()}). Name another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "flywheel.yaml").exists():
        Workspace.create(out, _config(size, settings))
    mark.write_text(identity)
    if not (out / "oracle.parquet").exists():
        write_playground(out, seed=seed, num_clips=size.num_clips, noise_rate=noise)
    return out


def _folder_of(url: Path, size: Size, settings: Mapping[str, Mapping[str, Any]]) -> Path:
    """This host's folder of the workspace at a URL, with what is there; a new one where there is none."""
    try:
        folder = opened(url)
    except UserError:
        if not settings.get("store", {}).get("database"):
            raise UserError(
                f"{url_of(url)}: no demo is there. A new one has its database on PostgreSQL: say --database URL."
            ) from None
        Workspace.create(url, _config(size, settings))
        folder = opened(url)
    # What other hosts wrote comes here.
    Workspace.open(folder).database.close()
    return folder


def _config(size: Size, settings: Mapping[str, Mapping[str, Any]]) -> str:
    raw = yaml.safe_load(template("playground"))
    for extra in (size.settings, settings):
        for section, values in extra.items():
            raw[section].update(values)
    return "# Written by 'flywheel demo'.\n" + yaml.safe_dump(raw, sort_keys=False)

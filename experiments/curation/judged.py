"""How well clips with a foreign sound are found when bundled describers and a judge are asked, and what doubt saves.

``python -m experiments.curation.judged FOLDER --seed 71000 --clips 600`` renders a corpus of the playground's world
with sound, 30 % of it with sounds of another theme, and curates it three times on one workspace: by cheap columns,
with a judge where they leave doubt, and with a judge of all. Of a tenth as many clips, half with sources off screen,
only the judge's scores are shown. It prints a JSON line a figure. Nothing was chosen on these seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import mannwhitneyu

from flywheel.core.types import CRITERIA, SHUFFLED
from flywheel.playground.av.corpus import write_av_playground
from flywheel.store import Workspace

_SETTINGS = (
    "corpus.test_share=0",
    "corpus.anchor_share=0",
    "tracking.enabled=false",
    "curate.policy=quantile",
    "curate.value=0.7",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=71_000)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--new-twins", action="store_true", help="of a folder judged before: twins are chosen anew")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.new_twins:
        workspace = folder / "mismatch" / "w"
        _forget_twins(Workspace.open(workspace))
    else:
        workspace = _taken_in(folder / "mismatch", arguments.seed, arguments.clips, {"mismatch": 0.3})
    decided = {}
    for judge in ("never", "doubt", "all"):
        decided[judge] = _curated(workspace, judge)
        _found(judge, decided[judge])
        bins, tenths = _reliability(decided[judge]), _tenths(decided[judge])
        gap = sum(abs(predicted - true) * n for predicted, true, n in bins) / sum(n for _, _, n in bins)
        _say(what="reliability", judge=judge, bins=bins, mean_gap=gap, tenths=tenths)
    for judge in ("never", "doubt"):
        wrong = {name: _wrong(decided[name]) for name in (judge, "all")}
        _say(what="wrong decisions", judge=judge, share=wrong[judge], of_all_judged=wrong["all"])
    _scores(workspace, decided["all"])
    if arguments.new_twins:
        return
    other = _taken_in(folder / "off-screen", arguments.seed + 1, max(20, arguments.clips // 10), {"off_screen": 0.5})
    _scores(other, _curated(other, "all", "curate.value=1"))


def _forget_twins(workspace: Workspace) -> None:
    """Take twins, and what was said of them, off the records; all else that models said stays."""
    of_twins = pl.col("purpose") == SHUFFLED
    with workspace.lock():
        workspace.records.remove({"annotations": of_twins, "control_judgements": of_twins, "twins": pl.lit(True)})


def _taken_in(folder: Path, seed: int, count: int, faults: dict[str, float]) -> Path:
    """A workspace that holds a rendered corpus."""
    write_av_playground(folder, seed=seed, num_clips=count, noise_rate=0.3, faults=faults)
    workspace = folder / "w"
    if not workspace.exists():
        _flywheel(folder, "init", str(workspace), "--preset", "playground-av")
    _flywheel(workspace, "ingest", str(folder / "corpus"), *_set())
    return workspace


def _curated(workspace: Path, judge: str, *settings: str) -> pl.DataFrame:
    """Decisions with the truth of each clip: ``matched``, ``fault``."""
    result = json.loads(_flywheel(workspace, "curate", "--json", *_set(f"curate.judge={judge}", *settings)))
    _say(
        what="curate", judge=judge, **{name: result[name] for name in ("kept", "dropped", "unscored", "cost", "judged")}
    )
    store = Workspace.open(workspace)
    clips = store.clips().select(clip_id="id", file=pl.col("uri").str.extract(r"([^/]+\.mp4)$"))
    truth = pl.read_parquet(workspace.parent / "oracle.parquet").select("file", "matched", "fault")
    return store.decisions().join(clips, on="clip_id").join(truth, on="file")


def _set(*more: str) -> list[str]:
    return [part for setting in (*_SETTINGS, *more) for part in ("--set", setting)]


def _flywheel(where: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "flywheel.cli", *arguments]
    return subprocess.run(command, cwd=where, check=True, stdout=subprocess.PIPE, text=True).stdout


def _say(**figures: Any) -> None:
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in figures.items()}), flush=True)


def _found(judge: str, decided: pl.DataFrame) -> None:
    scored = decided.filter(pl.col("score").is_not_null())
    good, bad = (scored.filter(pl.col("matched") == side)["score"].to_numpy() for side in (True, False))
    planted, true = decided.filter(~pl.col("matched")), decided.filter("matched")
    _say(
        what="found",
        judge=judge,
        told=scored.height / decided.height,
        auc=float(mannwhitneyu(good, bad).statistic / (len(good) * len(bad))),
        planted_dropped=1 - _mean(planted["kept"]),
        true_dropped=1 - _mean(true["kept"]),
    )


def _tenths(decided: pl.DataFrame) -> list[tuple[float, float, int]]:
    """The same of ten bins of equally many clips."""
    scored = decided.filter(pl.col("score").is_not_null()).sort("score")
    parts = [scored[rows.tolist()] for rows in np.array_split(np.arange(scored.height), 10)]
    return [(round(_mean(part["score"]), 3), round(_mean(part["matched"]), 3), part.height) for part in parts]


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).to_numpy().mean())


def _reliability(decided: pl.DataFrame) -> list[tuple[float, float, int]]:
    """Predicted and true shares of matches, and clips, in ten bins of P(match)."""
    scored = decided.filter(pl.col("score").is_not_null())
    bins = scored.group_by((pl.col("score") * 10).floor().clip(0, 9).alias("bin")).agg(
        pl.col("score").mean(), pl.col("matched").cast(pl.Float64).mean(), pl.len()
    )
    return [(round(p, 3), round(t, 3), n) for _, p, t, n in bins.sort("bin").rows()]


def _wrong(decided: pl.DataFrame) -> float:
    return _mean(decided["kept"] != decided["matched"])


def _scores(workspace: Path, decided: pl.DataFrame) -> None:
    """Mean scores by what is wrong with a clip."""
    judged = Workspace.open(workspace).judgements().join(decided.select("clip_id", "fault"), on="clip_id")
    for fault, rows in sorted(judged.partition_by("fault", as_dict=True).items()):
        means = {name: float(np.nanmean(rows[name].cast(pl.Float64).to_numpy())) for name in CRITERIA}
        _say(what="scores", fault=fault[0] or "none", clips=rows.height, **means)


if __name__ == "__main__":
    main()

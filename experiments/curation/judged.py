"""How well clips with a foreign sound are found when bundled describers and a judge are asked, and what doubt saves.

``python -m experiments.curation.judged FOLDER --seed 71000 --clips 600`` renders a corpus of the playground's world
with sound, 30 % of it with sounds of another theme, and curates it three times on one workspace: by cheap columns,
with a judge where they leave doubt, and with a judge of all. Of two more corpora, a tenth as large, half of the one
with sources off screen and half of the other with sounds .5 to 1 s off, the judge's scores are shown, and how well
shifts are found by each criterion and by synchrony. A JSON line a figure; ``--only`` names some of the corpora.
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
from flywheel.curation.columns import joined, sources
from flywheel.playground.av.corpus import write_av_playground
from flywheel.store import Workspace

_CORPORA = ("mismatch", "off-screen", "shift")
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
    parser.add_argument("--only", choices=_CORPORA, nargs="+", default=_CORPORA)
    parser.add_argument("--few", type=int, help="clips of the two smaller corpora; a tenth of --clips if left out")
    parser.add_argument("--new-twins", action="store_true", help="of a folder judged before: twins are chosen anew")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    few = arguments.few or max(20, arguments.clips // 10)
    if arguments.new_twins:
        _forget_twins(Workspace.open(folder / "mismatch" / "w"))
        _mismatches(folder / "mismatch" / "w")
        return
    if "mismatch" in arguments.only:
        _mismatches(_taken_in(folder / "mismatch", arguments.seed, arguments.clips, {"mismatch": 0.3}))
    if "off-screen" in arguments.only:
        other = _taken_in(folder / "off-screen", arguments.seed + 1, few, {"off_screen": 0.5})
        _scores(other, _curated(other, "all", "curate.value=1"))
    if "shift" in arguments.only:
        _shifts(_taken_in(folder / "shift", arguments.seed + 2, few, {"shift": 0.5}))


def _mismatches(workspace: Path) -> None:
    """Foreign sounds, by what was measured, with a judge where that leaves doubt, and with a judge of all."""
    decided = {}
    for judge in ("never", "doubt", "all"):
        decided[judge] = _curated(workspace, judge)
        _found(judge, decided[judge])
        bins, tenths = _reliability(decided[judge]), _tenths(decided[judge])
        gap = sum(abs(predicted - true) * n for predicted, true, n in bins) / sum(n for _, _, n in bins)
        _say(what="reliability", judge=judge, bins=bins, mean_gap=gap, tenths=tenths, luck=_luck(decided[judge]))
    for judge in ("never", "doubt"):
        wrong = {name: _wrong(decided[name]) for name in (judge, "all")}
        _say(what="wrong decisions", judge=judge, share=wrong[judge], of_all_judged=wrong["all"])
    _scores(workspace, decided["all"])


def _shifts(workspace: Path) -> None:
    """How well sounds that are .5 to 1 s off are told from others: by each of a judge's scores, and by synchrony."""
    decided = _curated(workspace, "all", "curate.value=1", "curate.calibration_clips=0", "curate.repeats=0")
    _scores(workspace, decided)
    store = Workspace.open(workspace)
    synchrony = joined(store, decided.select("clip_id", "fault", "late_s"), sources())
    off = synchrony["fault"] == "shift"
    names = ("together", *(f"judge_{name}" for name in CRITERIA))
    found = {name: _auc(synchrony.filter(~off)[name], synchrony.filter(off)[name]) for name in names}
    _say(what="auc of shifts", clips=synchrony.height, shifted=int(off.sum()), **found)
    errors = (synchrony["offset_s"] - synchrony["late_s"]).abs().fill_nan(None).drop_nulls().to_numpy()
    within, told = float((errors <= 0.04).mean()), len(errors) / synchrony.height
    _say(what="offset", told=told, within_40_ms=within, median_ms=1000 * float(np.median(errors)))


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
    """Decisions with the truth of each clip: ``matched``, ``fault``, ``late_s``."""
    result = json.loads(_flywheel(workspace, "curate", "--json", *_set(f"curate.judge={judge}", *settings)))
    _say(
        what="curate", judge=judge, **{name: result[name] for name in ("kept", "dropped", "unscored", "cost", "judged")}
    )
    store = Workspace.open(workspace)
    clips = store.clips().select(clip_id="id", file=pl.col("uri").str.extract(r"([^/]+\.mp4)$"))
    truth = pl.read_parquet(workspace.parent / "oracle.parquet").select("file", "matched", "fault", late_s="offset_s")
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
    good, bad = (scored.filter(pl.col("matched") == side)["score"] for side in (True, False))
    planted, true = decided.filter(~pl.col("matched")), decided.filter("matched")
    _say(
        what="found",
        judge=judge,
        told=scored.height / decided.height,
        auc=_auc(good, bad),
        planted_dropped=1 - _mean(planted["kept"]),
        true_dropped=1 - _mean(true["kept"]),
    )


def _auc(high: pl.Series, low: pl.Series) -> float:
    """The chance that one of ``high`` is above one of ``low``; what is not known is left out."""
    a, b = (side.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy() for side in (high, low))
    return float(mannwhitneyu(a, b).statistic / (len(a) * len(b)))


def _luck(decided: pl.DataFrame) -> dict[str, float]:
    """What ten bins of equally many clips would show if each P(match) were exactly right, over 2,000 draws.

    ``held``: how often all ten differ by .05 at most; ``median`` and ``most``: of the largest difference, the median
    and what it exceeds in a twentieth of the draws.
    """
    score = np.sort(decided["score"].drop_nulls().to_numpy().astype(np.float64))
    truth = np.random.default_rng(0).random((2000, len(score))) < score
    parts = np.array_split(np.arange(len(score)), 10)
    gaps = np.max([np.abs(score[part].mean() - truth[:, part].mean(axis=1)) for part in parts], axis=0)
    return {
        "held": round(float((gaps <= 0.05).mean()), 3),
        "median": round(float(np.median(gaps)), 3),
        "most": round(float(np.quantile(gaps, 0.95)), 3),
    }


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

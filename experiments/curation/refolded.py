"""How good P(match) is of a corpus that was judged, over other partings into folds and choices of clips that calibrate.

``python -m experiments.curation.refolded FOLDER/mismatch --draws 4 --clips 150``, of a FOLDER that
:mod:`experiments.curation.judged` left: no model is asked. ``--draws 0`` takes folds and clips as they are. Twins of
the picture's own theme, which are chosen no more, get the zeros that the judge gave to all others; ``--twins`` leaves
them as they are. A JSON line for each way to judge: log loss of the truth, mean and largest difference of P(match) and
truth in ten bins of equally many clips, and how many differ by .05 at most.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.curation.calibration import calibrate
from flywheel.curation.pairs import CONTROLS, Pairs
from flywheel.curation.table import gather
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

#: As experiments.curation.judged has it: the share kept, the width of the doubt, the share judged at most.
_KEPT, _DOUBT, _MOST = 0.7, 0.4, 0.5


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A corpus all of whose clips were judged: its pairs, which clips calibrate (n,), and which match (n,)."""

    pairs: Pairs
    calibrating: NDArray[np.bool_]
    matched: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--clips", type=int, default=150, help="clips that calibrate, of those that did")
    parser.add_argument("--twins", action="store_true", help="leave twins as they are")
    options = parser.parse_args()
    corpus = _read(options.folder, as_they_are=options.twins)
    for judge in ("never", "doubt", "all"):
        found = []
        for draw in range(max(1, options.draws)):
            drawn = _drawn(corpus, np.random.default_rng(draw), options.clips) if options.draws else corpus
            found.append(_figures(_p_match(drawn, judge), corpus.matched))
        mean = {name: round(float(np.mean([one[name] for one in found])), 4) for name in found[0]}
        print(json.dumps({"judge": judge, "draws": options.draws, **mean}), flush=True)


def _read(folder: Path, *, as_they_are: bool) -> Judged:
    settings = ["corpus.test_share=0", "corpus.anchor_share=0", "tracking.enabled=false"]
    workspace = Workspace.open(folder / "w", settings)
    table = gather(workspace, ClipIndex(workspace))
    files = workspace.clips().select(clip_id="id", file=pl.col("uri").str.extract(r"([^/]+\.mp4)$"))
    truth = pl.read_parquet(folder / "oracle.parquet").select("file", "matched", "theme")
    clips = table.clips.join(files, on="clip_id").join(truth, on="file").sort("clip_id")
    twins, asked = workspace.twins(), np.array([name in table.asked for name in table.features])
    own, *made = (
        clips.select(pl.col(pair + name).cast(pl.Float32).fill_null(np.nan) for name in table.features).to_numpy()
        for pair in ("", *(f"{pair}_" for pair in CONTROLS))
    )
    if not as_they_are:
        themes = dict(clips.select("clip_id", "theme").iter_rows())
        alike = np.array([themes.get(twins.get(clip, "")) == themes[clip] for clip in clips["clip_id"]])
        made[0][np.ix_(alike, asked)] = np.where(np.isnan(made[0][np.ix_(alike, asked)]), np.nan, 0)
    pairs = Pairs(
        own=own,
        controls=tuple(made),
        source=clips["source"].to_numpy(),
        label=np.full(clips.height, -1, np.int8),
        asked=asked,
    )
    calibrating = clips["clip_id"].is_in(list(twins)).to_numpy()
    return Judged(pairs=pairs, calibrating=calibrating, matched=clips["matched"].to_numpy())


def _drawn(corpus: Judged, rng: np.random.Generator, count: int) -> Judged:
    """The corpus with other folds, and some of the clips that calibrate."""
    source = corpus.pairs.source ^ np.uint64(rng.integers(1 << 60))
    some = np.zeros(len(source), dtype=bool)
    some[rng.permutation(np.flatnonzero(corpus.calibrating))[:count]] = True
    return replace(corpus, pairs=replace(corpus.pairs, source=source), calibrating=some)


def _p_match(corpus: Judged, judge: str) -> NDArray[np.float64]:
    """P(match) (n,) as curation has it where a judge is asked never, in doubt, or of all."""
    pairs, asked = corpus.pairs, corpus.pairs.asked
    assert asked is not None
    nobody = np.zeros(len(pairs.source), dtype=bool)
    p_match = _calibrated(pairs, nobody, nobody, None)
    if judge == "never":
        return p_match
    if judge == "all":
        return _calibrated(pairs, ~nobody, corpus.calibrating, (0.0, 1.0))
    count = round(_KEPT * len(p_match))
    distance = np.abs(p_match - np.partition(p_match, len(p_match) - count)[len(p_match) - count])
    nearest = np.argsort(distance, kind="stable")[: int(_MOST * len(p_match))]
    unsure = nearest[distance[nearest] <= _DOUBT]
    there = corpus.calibrating.copy()
    there[unsure] = True
    within = p_match[unsure]
    return _calibrated(pairs, there, corpus.calibrating, (float(within.min()), float(within.max())))


def _calibrated(
    pairs: Pairs, judged: NDArray[np.bool_], calibrating: NDArray[np.bool_], doubt: tuple[float, float] | None
) -> NDArray[np.float64]:
    """P(match) where these clips are judged, and those that calibrate in the other ways too."""
    asked = pairs.asked
    assert asked is not None
    own, *made = (pair.copy() for pair in (pairs.own, *pairs.controls))
    own[np.ix_(~judged, asked)] = np.nan
    for control in made:
        control[np.ix_(~calibrating, asked)] = np.nan
    some = replace(pairs, own=own, controls=tuple(made))
    return calibrate(some, doubt=doubt).p_match(own, pairs.source).astype(np.float64)


def _figures(p_match: NDArray[np.float64], matched: NDArray[np.bool_]) -> dict[str, float]:
    sure = np.clip(p_match, 0.002, 0.998)
    parts = np.array_split(np.argsort(p_match, kind="stable"), 10)
    gaps = np.array([abs(p_match[part].mean() - matched[part].mean()) for part in parts])
    return {
        "log_loss": float(-np.log(np.where(matched, sure, 1 - sure)).mean()),
        "mean_gap": float(gaps.mean()),
        "largest": float(gaps.max()),
        "held": float((gaps <= 0.05).sum()),
    }


if __name__ == "__main__":
    main()

"""What deciding on a million clips takes: ``python -m experiments.curation.million FOLDER``, a JSON line a step.

The columns are drawn, not measured; all else is what ``flywheel curate`` does with them: probability, policy, summary,
and the decisions on record. With ``--judgements`` a million judgements with their reasons are put on record first, by a
process of its own, and then read, joined, learned from, decided on and charted.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl

from flywheel.core.config import template
from flywheel.curation.calibration import calibrate
from flywheel.curation.columns import joined, judge
from flywheel.curation.curating import decisions_digest
from flywheel.curation.pairs import Pairs
from flywheel.curation.policy import Policy, decide, summary
from flywheel.rounds.curation_view import criteria
from flywheel.sound.repetition import repeats
from flywheel.store import Workspace

_TOGETHER = 20_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--judgements", choices=("write", "read"))
    arguments = parser.parse_args()
    if arguments.judgements:
        (_write if arguments.judgements == "write" else _read)(arguments.folder, arguments.clips)
        return
    clips, own, controls = _drawn(arguments.clips)
    began, spent = time.monotonic(), time.process_time()

    def step(name: str) -> None:
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        seconds = {"s": round(time.monotonic() - began, 1), "cpu_s": round(time.process_time() - spent, 1)}
        print(json.dumps({"step": name, **seconds, "gib": round(gib, 2)}), flush=True)

    step("columns")
    rng = np.random.default_rng(1)
    repeats(rng.integers(0, 2**32, (arguments.clips, 4), dtype=np.uint32))
    step("repeats")
    source = clips["source"].to_numpy()
    label = np.full(len(own), -1, np.int8)
    calibration = calibrate(Pairs(own=own, controls=controls, source=source, label=label))
    clips = clips.with_columns(p_match=pl.Series(calibration.p_match(own, source)).fill_nan(None))
    step("probability")
    policy = Policy(how="lose", value=calibration.losing(0.02).at, limits={"silent": (None, 0.9)})
    decided = decide(clips, policy)
    step("policy")
    counts = summary(clips, decided)
    run = decisions_digest(decided)
    step("summary")
    Workspace.create(arguments.folder, template())
    workspace = Workspace.open(arguments.folder)
    with workspace.lock():
        workspace.add_decisions(run, decided)
    step("on record")
    workspace.decisions()
    step("read")
    print(json.dumps(counts))


def _write(folder: Path, count: int) -> None:
    """Put drawn judgements on record, 500 of them with twins: their reasons as long as the bundled judge's."""
    Workspace.create(folder, template())
    workspace, rng = Workspace.open(folder), np.random.default_rng(0)
    said = [f"What is heard is what such a thing does, as is seen in place {n}." for n in range(5)]
    shared = {"seen_id": "s" * 20, "heard_id": "h" * 20, "generation_id": "g" * 20, "swapped": False, "unscored": ""}
    with workspace.lock():
        for start in range(0, count, _TOGETHER):
            right = rng.random(_TOGETHER) < 0.7
            scores = np.clip(rng.normal(np.where(right, 8, 2)[:, None], 1.5, (_TOGETHER, 5)), 0, 10).round().astype(int)
            rows = [
                {**shared, "clip_id": f"{start + n:020x}", "scores": of.tolist(), "reasons": said, "sources": "{}"}
                for n, of in enumerate(scores[: count - start])
            ]
            workspace.add_judgements(rows, 1)
        twins = np.clip(rng.normal(2, 1.5, (500, 5)), 0, 10).round().astype(int)
        short = {"generation_id": "g" * 20, "unscored": "", "purpose": "shuffled", "other_id": "o" * 20}
        controls = [{**short, "clip_id": f"{n:020x}", "scores": of.tolist()} for n, of in enumerate(twins)]
        workspace.add_control_judgements(controls, 1)


def _read(folder: Path, count: int) -> None:
    """Decide on clips by the judgements that are on record, and count them as the report does."""
    began, spent = time.monotonic(), time.process_time()
    workspace = Workspace.open(folder)
    clips, _, _ = _drawn(count)
    clips = clips.with_columns(clip_id=pl.Series([f"{number:020x}" for number in range(count)]))
    clips = joined(workspace, clips, [judge.SOURCE])
    own, *controls = (
        clips.select(pl.col(f"{pair}{name}").cast(pl.Float32).fill_null(np.nan) for name in judge.FEATURES).to_numpy()
        for pair in ("", "shuffled_", "shifted_")
    )
    source, label = clips["source"].to_numpy(), np.full(count, -1, np.int8)
    asked = np.ones(len(judge.FEATURES), dtype=bool)
    pairs = Pairs(own=own, controls=tuple(controls), source=source, label=label, asked=asked)
    calibration = calibrate(pairs)
    clips = clips.with_columns(p_match=pl.Series(calibration.p_match(own, source)).fill_nan(None))
    decided = decide(clips, Policy(how="lose", value=calibration.losing(0.02).at))
    counts = summary(clips, decided)
    bars = criteria(workspace, decided)
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = {"s": round(time.monotonic() - began, 1), "cpu_s": round(time.process_time() - spent, 1)}
    told = {"kept": counts["kept"], "bars": sum(bar.kept + bar.dropped for bar in bars["temporal"])}
    print(json.dumps({"step": "judgements", **seconds, "gib": round(gib, 2), **told}))


def _drawn(count: int) -> tuple[pl.DataFrame, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    matches = rng.random(count) < 0.7

    def wrong() -> np.ndarray:
        return np.column_stack([rng.normal(0, 1, count), np.abs(rng.normal(3, 0.7, count))]).astype(np.float32)

    right = np.column_stack([rng.normal(5, 2, count), np.abs(rng.normal(0.5, 1, count))]).astype(np.float32)
    own = np.where(matches[:, None], right, wrong()).astype(np.float32)
    own[rng.random(count) < 0.1] = np.nan
    splits = np.array(["train", "test", "anchor"])[rng.choice(3, count, p=[0.7, 0.2, 0.1])]
    clips = pl.DataFrame(
        {
            "clip_id": [f"{number:020x}" for number in rng.permutation(count)],
            "split": pl.Series(splits).cast(pl.Categorical),
            "source": (np.arange(count) // 8).astype(np.uint64),
            "duration_s": rng.uniform(3, 10, count).astype(np.float32),
            "silent": rng.random(count).astype(np.float32),
            "doubt": np.where(np.isnan(own[:, 0]), "still picture", ""),
        }
    ).with_columns(lead=pl.lit(None, pl.Boolean), lead_reason=pl.lit(None, pl.String))
    return clips, own, (wrong(), wrong())


if __name__ == "__main__":
    main()

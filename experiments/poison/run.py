"""What the gate makes of wrong corrections, on the playground, judged by the oracle.

    python experiments/poison/run.py --out /tmp/poison --seeds 111 112

A wheel of 400 clips turns one clean round (40 corrections: 16 anchors, 24 train clips). Its second round is turned
four times:

- ``clean``: corrections are true;
- ``train``: three of ten corrections of train clips are another clip's text, those of anchors are true;
- ``gold``: four refiners; what one of them, Eve, says of any clip, anchors and gold among them, is another clip's text;
  each judged six gold items;
- ``overlap``: the same without gold, but every anchor was seen by two of the four.

Prints for each the gate's verdict and reason, and the oracle's slot F1 of the second model against the first on the
test split, which the gate does not see.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from flywheel.core.config import template
from flywheel.core.types import CAPTION, Correction, content_id
from flywheel.demo import _SETTINGS, Oracle, _choose, test_scores
from flywheel.ingest import ingest
from flywheel.metrics import paired_difference
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import baseline
from flywheel.rounds.progress import current_round
from flywheel.store import Workspace
from human_refine.gold import add_gold

PEOPLE = ("ann", "bob", "cleo", "eve")
COUNT = 40


def first_round(folder: Path, seed: int, many: bool) -> None:
    if not (folder / "flywheel.yaml").exists():
        raw = yaml.safe_load(template())
        raw["tracking"]["enabled"] = False
        raw["corpus"]["anchor_share"] = 0.2
        for section, values in _SETTINGS.items():
            raw[section].update(values)
        Workspace.create(folder, yaml.safe_dump(raw))
        write_playground(folder, seed=seed, num_clips=480 if many else 400, noise_rate=0.5)
    w = Workspace.open(folder)
    context, oracle = RoundContext(w), Oracle(folder / "oracle.parquet")
    with w.lock():
        if w.clips().is_empty():
            ingest(w, [str(folder / "corpus")])
        baseline(context)
        if current_round(context.workspace) == 1:
            run_round(context, until="annotate")
            say(context, oracle, seed, "clean", 1, many)
            run_round(context)
        run_round(context, until="annotate")
    w.database.close()


def say(context: RoundContext, oracle: Oracle, seed: int, kind: str, round: int, many: bool) -> None:
    w, rng = context.workspace, np.random.default_rng([seed, round])
    clips = w.clips()
    rows = w.annotations(round=round, kind=CAPTION).join(
        clips.select(pl.col("id").alias("clip_id"), "uri", "split"), on="clip_id"
    )
    rows = rows.join(w.corrections().select("clip_id"), on="clip_id", how="anti").sort("id")
    gold = rows.filter(pl.col("split") == "train").head(10).to_dicts()
    if kind == "gold":
        add_gold(w, {r["clip_id"]: oracle.text(r["uri"]) for r in gold}, "lead")
    rows = rows.filter(~pl.col("id").is_in([g["id"] for g in gold]))
    if many:
        # All anchors in the first round, as a team would that wants its gate to tell; then train clips alone.
        train = rows.filter(pl.col("split") == "train").to_dicts()
        chosen = rows.filter(pl.col("split") == "anchor").to_dicts() + [
            train[i] for i in rng.permutation(len(train))[: 24 * round]
        ]
    else:
        chosen = _choose(rows, COUNT, rng)
    uris = clips["uri"].to_list()

    def wrong() -> str:
        return oracle.text(str(rng.choice(uris)))

    said: list[Correction] = []

    def add(row: dict[str, str], refiner: str, text: str) -> None:
        said.append(
            Correction(
                id=content_id(row["id"], refiner),
                annotation_id=row["id"],
                clip_id=row["clip_id"],
                verdict="edit",
                text=text,
                refiner=refiner,
                at=datetime(2026, 1, 2, tzinfo=UTC),
            )
        )

    lies: Callable[[str], bool] = lambda name: kind in ("gold", "overlap") and name == "eve"  # noqa: E731
    pairs = itertools.cycle(itertools.combinations(PEOPLE, 2))
    for number, row in enumerate(chosen):
        names = next(pairs) if kind == "overlap" and row["split"] == "anchor" else (PEOPLE[number % 4],)
        for name in names:
            false = lies(name) or (kind == "train" and row["split"] == "train" and rng.random() < 0.3)
            add(row, name, wrong() if false else oracle.text(row["uri"]))
    if kind == "gold":
        for place, name in enumerate(PEOPLE):
            for row in [gold[(place + i) % 10] for i in range(6)]:
                add(row, name, wrong() if lies(name) else oracle.text(row["uri"]))
    w.add_corrections(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[111])
    parser.add_argument("--kinds", nargs="+", default=["gold", "overlap", "train", "clean"])
    parser.add_argument(
        "--many-anchors",
        action="store_true",
        help="480 clips, all 96 anchors corrected in round 1; for train and clean",
    )
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        base = arguments.out / f"{seed}"
        first_round(base, seed, arguments.many_anchors)
        for kind in arguments.kinds:
            folder = arguments.out / f"{seed}-{kind}"
            if not folder.exists():
                shutil.copytree(base, folder)
            w = Workspace.open(folder)
            context, oracle = RoundContext(w), Oracle(folder / "oracle.parquet")
            with w.lock():
                if w.meta("poisoned") is None:
                    say(context, oracle, seed, kind, 2, arguments.many_anchors)
                    w.set_meta("poisoned", kind)
                result = run_round(context)
            change = paired_difference(test_scores(w, oracle, 2), test_scores(w, oracle, 1))
            print(
                json.dumps({"seed": seed, "kind": kind, "message": result["message"], "oracle_change": asdict(change)}),
                flush=True,
            )
            w.database.close()


if __name__ == "__main__":
    main()

"""Whether two trees of this code make the same of the same corpus: texts, keys, corrections and figures, side by side.

    flywheel demo --out OLD --seed 71           with the one tree
    flywheel demo --out NEW --seed 71           with the other
    python experiments/bench/same_results.py compare OLD NEW

    python experiments/bench/same_results.py vllm --src TREE --out old.json [--clips 24]
    python experiments/bench/same_results.py compare old.json new.json

``compare`` takes workspace folders, or files that ``record`` or ``vllm`` wrote. It reads Parquet, SQLite and
``summary.json`` without any code of ours, so neither workspace is changed, whatever its layout. It exits 1 where
something differs. Words that people read (the gate's reason) may differ, and are counted apart; so are figures that
only the newer side has.

``vllm`` runs a whole round with real vLLM in process, the bundled model and a small adapter: base's evaluation,
annotate, corrections from the oracle, fine-tuning, evaluation with the adapter (proven first), gate.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy
import yaml

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
VLLM_OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 2048,
    "kv_cache_memory_bytes": 64 << 20,
    "disable_log_stats": True,
}
CONFIG: dict[str, Any] = {
    "corpus": {"test_share": 0.25, "anchor_share": 0.25},
    "annotate": {"engine": "vllm", "options": VLLM_OPTIONS},
    "pretrain": {"num_steps": 0},
    "finetune": {"num_steps": 8, "min_corrections": 1},
    "evaluate": {"resamples": 200, "agreement_pairs": 0, "diversity_tokens": 50},
    "gate": {"min_anchors": 2},
    "tracking": {"enabled": False},
}
#: Keys of summary.json that hold times or memory, and those that hold words for people.
TIMES = frozenset(("wall_s", "peak_rss_gib", "stages_s"))
WORDS = frozenset(("reason", "message"))


# -- what a workspace holds --------------------------------------------------------------------------------------------


def record(root: Path) -> dict[str, Any]:
    """Texts, keys, corrections and figures of a workspace, as plain values."""
    texts, generations = {}, {}
    for row in rows_of(root, "annotations"):
        kind, purpose = form_of(row)
        texts[f"{row['round']}/{kind}/{purpose}/{row['clip_id']}"] = {
            "id": row["id"],
            "generation": row["generation_id"],
            "text": row["text"],
            "payload": row.get("payload") or "",
            "mean_logprob": row["mean_logprob"],
        }
    for row in rows_of(root, "generations"):
        generations[row["id"]] = {"text": row["text"], "tokens": list(row["token_ids"]), "finish": row["finish"]}
    corrections = words_of(root)
    summary = root / "summary.json"
    return {
        "clips": {row["id"]: row["split"] for row in rows_of(root, "clips")},
        "texts": texts,
        "generations": generations,
        "corrections": {row[0]: list(row[1:]) for row in corrections},
        "examples": {row["id"]: row["weight"] for row in rows_of(root, "examples")},
        "noise_signals": {row["id"]: row["value"] for row in rows_of(root, "noise_signals")},
        "summary": json.loads(summary.read_text()) if summary.exists() else gate_of(root),
    }


def words_of(root: Path) -> list[tuple[Any, ...]]:
    """Corrections, from the folder's database, or the one that its configuration names."""
    query = "SELECT id, annotation_id, verdict, text, refiner FROM corrections"
    url = (yaml.safe_load((root / "flywheel.yaml").read_text()).get("store") or {}).get("database")
    if url:
        made = sqlalchemy.make_url(os.path.expandvars(url))
        if made.drivername == "postgresql":
            made = made.set(drivername="postgresql+psycopg")
        with sqlalchemy.create_engine(made).connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]
    with closing(sqlite3.connect(f"file:{root / 'flywheel.db'}?mode=ro", uri=True)) as database:
        return list(database.execute(query).fetchall())


def rows_of(root: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a kind of record, from all its shards; a workspace at rest has no others on disk."""
    for file in sorted((root / kind).rglob("part-*.parquet")):
        yield from pl.read_parquet(file, hive_partitioning=False).iter_rows(named=True)


def form_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and purpose; before texts had a purpose, captions that measure had a kind of their own."""
    if row["kind"] == "evaluation":
        return "caption", "measure"
    return row["kind"], row.get("purpose") or "learn"


def gate_of(root: Path) -> dict[str, Any]:
    """The last round's figures where there is no summary of a demo."""
    report = json.loads(max(root.glob("reports/round=*/report.json")).read_text())
    groups = ("num_corrections", "quantity", "diversity", "quality", "watch")
    return {**{name: report[name] for name in groups}, "gate": report["details"]["gate"]}


# -- comparing ---------------------------------------------------------------------------------------------------------


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float, shown: int) -> bool:
    """Print what is equal and what is not; returns whether all is."""
    results = [
        equal_tables(name, old[name], new[name], tolerance, shown)
        for name in ("clips", "texts", "generations", "corrections", "examples", "noise_signals")
    ]
    return all([*results, equal_figures(old["summary"], new["summary"], tolerance, shown)])


def equal_tables(name: str, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float, shown: int) -> bool:
    gone, came = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    both = sorted(old.keys() & new.keys())
    different = [key for key in both if not alike(old[key], new[key], tolerance)]
    if not gone and not came and not different:
        print(f"{name}: equal ({len(old)}; largest difference of a number {largest(old, new):.1e})")
        return True
    print(f"{name}: DIFFERENT ({len(different)} of {len(both)} differ, {len(gone)} only old, {len(came)} only new)")
    for key in different[:shown]:
        print(f"  {key}\n    old {old[key]}\n    new {new[key]}")
    for word, keys in (("only old", gone), ("only new", came)):
        for key in keys[:shown]:
            print(f"  {word}: {key}")
    return False


def equal_figures(old: Any, new: Any, tolerance: float, shown: int) -> bool:
    before, after = dict(leaves(old)), dict(leaves(new))
    words = [path for path in before.keys() & after.keys() if path.rpartition("/")[2] in WORDS]
    reworded = sum(before.pop(path) != after.pop(path) for path in words)
    same = equal_tables(
        "figures", before, {path: value for path, value in after.items() if path in before}, tolerance, shown
    )
    print(
        f"  {reworded} of {len(words)} reasons are worded otherwise; "
        f"{len(after.keys() - before.keys())} figures are new"
    )
    return same


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested figures by their path, times left out."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name not in TIMES:
                yield from leaves(part, f"{path}/{name}" if path else name)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, f"{path}/{index}")
    else:
        yield path, value


def alike(old: Any, new: Any, tolerance: float) -> bool:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(alike(old[name], new[name], tolerance) for name in old)
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(old) and math.isnan(new))
    return bool(old == new)


def largest(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """The largest difference of two floating point numbers at the same place."""
    before, after = dict(leaves(old)), dict(leaves(new))
    pairs = ((before[p], after[p]) for p in before if isinstance(before[p], float) and isinstance(after[p], float))
    return max((abs(a - b) for a, b in pairs if math.isfinite(a - b)), default=0.0)


# -- a round through vLLM ----------------------------------------------------------------------------------------------


def vllm_round(src: Path, clips: int) -> dict[str, Any]:
    """What the tree in ``src`` makes of a round that vLLM writes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "w"
        root.mkdir()
        # A subset of JSON is YAML.
        (root / "flywheel.yaml").write_text(json.dumps(CONFIG))
        flywheel(
            src, "playground", str(root.parent / "videos"), "--seed", "6", "--num-clips", str(clips), "--noise", "0.3"
        )
        flywheel(src, "ingest", str(root.parent / "videos" / "corpus"), "--config", str(root))
        flywheel(src, "round", "--until", "annotate", "--config", str(root))
        file = root.parent / "corrections.jsonl"
        file.write_text("\n".join(corrections(root, root.parent / "videos" / "oracle.parquet")) + "\n")
        flywheel(src, "corrections", "import", str(file), "--config", str(root))
        flywheel(src, "round", "--config", str(root))
        return record(root)


def corrections(root: Path, oracle: Path) -> Iterator[str]:
    """The true text for every second clip, by id."""
    truth = pl.read_parquet(oracle)
    true = dict(zip(truth["file"], truth["text"], strict=True))
    files = {row["id"]: Path(row["uri"]).name for row in rows_of(root, "clips")}
    asked = [row for row in rows_of(root, "annotations") if row["round"] == 1 and form_of(row) == ("caption", "learn")]
    for row in sorted(asked, key=lambda row: row["id"])[::2]:
        text = true[files[row["clip_id"]]]
        yield json.dumps({"annotation_id": row["id"], "verdict": "edit", "text": text, "refiner": "oracle"})


def flywheel(src: Path, *arguments: str) -> None:
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(src.resolve())}
    done = subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"flywheel {' '.join(arguments)}: exit {done.returncode}\n{done.stderr[-3000:]}")


def loaded(path: Path) -> dict[str, Any]:
    """A record that was written to a file, or made now of a workspace."""
    return record(path) if path.is_dir() else dict(json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    both = commands.add_parser("compare")
    both.add_argument("old", type=Path)
    both.add_argument("new", type=Path)
    both.add_argument("--tolerance", type=float, default=1e-4, help="of floating point figures, relative and absolute")
    both.add_argument("--shown", type=int, default=3, help="differences of each kind that are printed")
    one = commands.add_parser("record")
    one.add_argument("workspace", type=Path)
    one.add_argument("--out", type=Path, required=True)
    run = commands.add_parser("vllm")
    run.add_argument("--src", type=Path, default=Path("."), help="the tree to run")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--clips", type=int, default=24)
    chosen = parser.parse_args()
    if chosen.command == "compare":
        same = compare(loaded(chosen.old), loaded(chosen.new), chosen.tolerance, chosen.shown)
        print("equal" if same else "DIFFERENT")
        sys.exit(0 if same else 1)
    made = record(chosen.workspace) if chosen.command == "record" else vllm_round(chosen.src, chosen.clips)
    temporary = chosen.out.with_name(chosen.out.name + ".tmp")
    temporary.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    shutil.move(temporary, chosen.out)


if __name__ == "__main__":
    main()

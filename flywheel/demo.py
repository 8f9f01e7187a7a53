"""The wheel on the playground: renders the corpus, turns the rounds with a simulated refiner, says what came of it.

Only this module reads the oracle: to measure, and to let the refiner, who stands in for a person watching the clip,
write what is true. The rounds see videos and transcripts alone.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, LEARN, MEASURE, Clip
from flywheel.ingest import ingest
from flywheel.metrics import mean_estimate, paired_difference
from flywheel.playground import slot_f1, write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import baseline
from flywheel.rounds.progress import DONE, current_round
from flywheel.rounds.publish import publish, report_of
from flywheel.rounds.stages.evaluate import trinity
from flywheel.store import Workspace
from human_refine import import_corrections

NUM_ROUNDS, NUM_CLIPS = 3, 800
QUICK_ROUNDS, QUICK_CLIPS = 2, 96

#: People may correct this share of all clips in a round, and so much of that goes to anchor clips.
CORRECTION_SHARE = 0.05
ANCHOR_PART = 0.4

_SETTINGS: dict[str, Any] = {
    "evaluate": {"diversity_tokens": 200},
}
_QUICK: dict[str, Any] = {
    "pretrain": {"num_steps": 24, "save_every": 6},
    "finetune": {"num_steps": 8, "min_corrections": 1},
    "loss": {"human_every": 10},
    "evaluate": {"diversity_tokens": 100, "resamples": 200, "agreement_pairs": 8},
    "gate": {"untested": "promote"},
}


class Oracle:
    """The truth of the playground's files."""

    def __init__(self, path: Path) -> None:
        frame = pl.read_parquet(path, glob=False)
        self._text = dict(zip(frame["file"], frame["text"], strict=True))
        self._slots = {file: frozenset(slots) for file, slots in zip(frame["file"], frame["slots"], strict=True)}

    def text(self, uri: str) -> str:
        return str(self._text[Path(uri).name])

    def f1(self, uri: str, said: str) -> float:
        return slot_f1(said, self._slots[Path(uri).name])


def run_demo(
    out: Path, *, seed: int, noise: float, quick: bool, settings: Mapping[str, Any] | None = None, people: bool = True
) -> dict[str, Any]:
    """Run or resume the demo in ``out``; returns what ``summary.json`` holds. ``people`` False leaves the refiner out.

    Raises UserError where ``out`` holds a demo with another seed or noise.
    """
    started = time.monotonic()
    num_rounds, num_clips = (QUICK_ROUNDS, QUICK_CLIPS) if quick else (NUM_ROUNDS, NUM_CLIPS)
    identity = json.dumps({"seed": seed, "noise": noise, "quick": quick})
    mark = out / "demo.json"
    if mark.exists() and mark.read_text() != identity:
        raise UserError(f"{out}: holds another demo ({mark.read_text()}). Name another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "flywheel.yaml").exists():
        raw = yaml.safe_load(template("playground"))
        for extra in (_SETTINGS, _QUICK if quick else {}, settings or {}):
            for section, values in extra.items():
                raw[section].update(values)
        Workspace.create(out, "# Written by 'flywheel demo'.\n" + yaml.safe_dump(raw, sort_keys=False))
    mark.write_text(identity)
    if not (out / "oracle.parquet").exists():
        write_playground(out, seed=seed, num_clips=num_clips, noise_rate=noise)
    workspace = Workspace.open(out)
    with workspace.lock():
        if workspace.meta("demo_ingested") is None:
            ingest(workspace, [str(out / "corpus")])
            workspace.set_meta("demo_ingested", "yes")
        context = RoundContext(workspace)
        baseline(context)
        while (round := current_round(context.workspace)) <= num_rounds:
            run_round(context, until="annotate")
            if people:
                _refine(context, Oracle(out / "oracle.parquet"), round, seed)
            run_round(context)
        summary = _summary(context, Oracle(out / "oracle.parquet"), num_rounds)
        elapsed = float(workspace.meta("demo_wall_s") or 0) + time.monotonic() - started
        workspace.set_meta("demo_wall_s", str(elapsed))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    summary = {"seed": seed, "noise": noise, "wall_s": elapsed, "peak_rss_gib": used, **summary}
    temporary = out / "summary.json.tmp"
    temporary.write_text(json.dumps(summary, indent=2) + "\n")
    temporary.replace(out / "summary.json")
    return summary


def _refine(context: RoundContext, oracle: Oracle, round: int, seed: int) -> None:
    """A refiner's evening: a small, fixed number of texts, watched and put right, handed in as a file."""
    workspace = context.workspace
    file = workspace.root / "corrections" / f"round-{round:03d}.jsonl"
    if not file.exists():
        captions = workspace.annotations(round=round, kind=CAPTION, purpose=LEARN)
        clips = workspace.clips()
        rows = captions.join(clips.select(pl.col("id").alias("clip_id"), "uri", "split"), on="clip_id")
        rows = rows.join(workspace.corrections(), on="clip_id", how="anti").sort("id")
        chosen = _choose(rows, int(CORRECTION_SHARE * clips.height), np.random.default_rng([seed, round]))
        lines = []
        for row in chosen:
            true = oracle.text(row["uri"])
            verdict = "accept" if row["text"] == true else "edit"
            lines.append(
                json.dumps({"annotation_id": row["id"], "verdict": verdict, "text": true, "refiner": "simulated"})
            )
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.replace(file)
    import_corrections(workspace, file)


def _choose(rows: pl.DataFrame, count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Anchors at random; of the train clips half at random and half those whose text the model doubted most."""
    anchors = rows.filter(pl.col("split") == "anchor").to_dicts()
    train = rows.filter(pl.col("split") == "train").to_dicts()
    num_anchors = min(len(anchors), round(ANCHOR_PART * count))
    num_train = min(len(train), count - num_anchors)
    picked = [anchors[i] for i in rng.permutation(len(anchors))[:num_anchors]]
    doubted = sorted(train, key=lambda r: (r["mean_logprob"], r["id"]))[: num_train // 2]
    rest = [r for r in train if r["id"] not in {d["id"] for d in doubted}]
    return picked + doubted + [rest[i] for i in rng.permutation(len(rest))[: num_train - len(doubted)]]


def test_scores(workspace: Workspace, oracle: Oracle, round: int) -> list[float]:
    """Slot F1 of M_round's text for each test clip, in the order of clip ids; 0 where it has none."""
    clips = workspace.clips("test").sort("id")
    said = dict(workspace.annotations(round=round, purpose=MEASURE).select("clip_id", "text").iter_rows())
    return [oracle.f1(uri, said.get(clip_id, "")) for clip_id, uri in clips.select("id", "uri").iter_rows()]


def transcript_scores(workspace: Workspace, oracle: Oracle) -> list[float]:
    """The same of the transcripts that came with the videos."""
    clips = workspace.clips("test").sort("id")
    return [oracle.f1(uri, text) for uri, text in clips.select("uri", "transcript").iter_rows()]


def _varied(context: RoundContext, texts: list[str], clips: list[Clip]) -> dict[str, Any]:
    """Quantity and diversity of texts, as plain values."""
    amounts, varied = trinity(context, texts, [c.duration_s for c in clips])
    return {"quantity": amounts, "diversity": {name: asdict(v) for name, v in varied.items()}, "quality": {}}


def _summary(context: RoundContext, oracle: Oracle, num_rounds: int) -> dict[str, Any]:
    workspace = context.workspace
    clips = list(context.split("test").by_id())
    scores = [test_scores(workspace, oracle, r) for r in range(num_rounds + 1)]
    given = [c for c in clips if c.transcript]
    transcripts = _varied(context, [c.transcript for c in given], given)
    truth = _varied(context, [oracle.text(c.uri) for c in clips], clips)
    rounds = []
    for round in range(num_rounds + 1):
        said = report_of(context, round).to_json()
        oracle_figures = {"slot_f1": asdict(mean_estimate(scores[round]))}
        _, measured = workspace.stage(round, "evaluate")
        workspace.set_stage(round, "evaluate", DONE, {**measured, "oracle": oracle_figures})
        kept: dict[str, Any] = {key: said[key] for key in ("quantity", "diversity", "quality")}
        kept["oracle"] = oracle_figures
        if round:
            kept |= {"round": round, "num_corrections": said["num_corrections"], "stages_s": said["stages_s"]}
            kept["gate"] = said["details"].get("gate", {})
            kept["learned_from_round"] = said["details"].get("pretrain", {}).get("learned_from_round")
            kept["change"] = asdict(paired_difference(scores[round], scores[round - 1]))
        rounds.append(kept)
    for round in range(num_rounds + 1):
        publish(context, round)
    base, *rest = rounds
    return {
        "base": base,
        "transcripts": {
            **transcripts,
            "oracle": {"slot_f1": asdict(mean_estimate(transcript_scores(workspace, oracle)))},
        },
        "truth": {"diversity": truth["diversity"]},
        "num_clips": len(context.clips),
        "rounds": rest,
    }


def table(summary: Mapping[str, Any]) -> str:
    """The demo's result as a table, and in words where a round did not improve."""
    lines = [
        f"{'':14} {'slot F1':>22} {'change (95 %)':>26} {'distinct-1':>11} {'distinct-3':>11} {'corrections':>12}",
        _line("true captions", summary["truth"], "", ""),
        _line("transcripts", summary["transcripts"], "", ""),
        _line("base model", summary["base"], "", ""),
    ]
    for said in summary["rounds"]:
        change = said["change"]
        text = f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        lines.append(_line(f"round {said['round']}", said, text, str(said["num_corrections"])))
    for said in summary["rounds"]:
        if said["change"]["low"] <= 0:
            word = "got worse" if said["change"]["high"] < 0 else "is no proven improvement"
            lines.append(f"Round {said['round']} {word} on the one before.")
        if said["gate"].get("verdict", "promoted") != "promoted":
            lines.append(f"Round {said['round']} was not promoted: {said['gate']['reason']}.")
    lines.append(f"{summary['wall_s']:.0f} s, {summary['peak_rss_gib']:.1f} GiB")
    return "\n".join(lines)


def _line(name: str, figures: Mapping[str, Any], change: str, corrections: str) -> str:
    found = figures.get("oracle", {}).get("slot_f1")
    f1 = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" if found else "1.000"
    varied = figures["diversity"]
    distinct_1, distinct_3 = varied["distinct_1"]["value"], varied["distinct_3"]["value"]
    return f"{name:14} {f1:>22} {change:>26} {distinct_1:>11.3f} {distinct_3:>11.3f} {corrections:>12}"


def where(summary: Mapping[str, Any], out: Path) -> str:
    """Where to look on."""
    last = len(summary["rounds"])
    return f"Report: {out / 'reports' / f'round={last:03d}' / 'report.html'}. MLflow: flywheel dashboard --config {out}"

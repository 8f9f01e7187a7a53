"""Two rounds of the whole demo whose corrections all come through the page, given by a scripted refiner in Chromium.

    python experiments/review_rounds/run.py --out /tmp/review_rounds --seed 91

800 clips, the demo's settings and number of corrections (40 a round); which texts, the page's own queue says. The
refiner knows the truth, as a person who watches the clip does, accepts what is right, and types what is not. Every word
goes through keys, the page's script, HTTP and the database; then the round trains on it. Prints slot F1 of base and
rounds, and how many corrections each adapter's record names.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import sync_playwright

from flywheel.core.config import template
from flywheel.demo import _SETTINGS, CORRECTION_SHARE, NUM_CLIPS, Oracle, test_scores
from flywheel.ingest import ingest
from flywheel.metrics import mean_estimate, paired_difference
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import baseline
from flywheel.rounds.progress import current_round
from flywheel.store import Workspace
from human_refine.people import invite

ROUNDS = 2


def refine(page: Any, oracle: Oracle, uris: dict[str, str], count: int) -> int:
    """Settle so many texts from the keyboard; returns how many were edits."""
    edits = 0
    for _ in range(count):
        source = str(page.get_attribute("#video", "src"))
        true = oracle.text(uris[source.rsplit("/", 1)[1]])
        if page.text_content("#model") == true:
            page.keyboard.press("a")
        else:
            page.keyboard.press("e")
            page.fill("#text", true)
            page.keyboard.press("Control+Enter")
            edits += 1
        while page.get_attribute("#video", "src") == source:
            page.wait_for_timeout(20)
    return edits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=91)
    arguments = parser.parse_args()
    root: Path = arguments.out
    if not (root / "flywheel.yaml").exists():
        raw = yaml.safe_load(template())
        for section, values in _SETTINGS.items():
            raw[section].update(values)
        raw["review"].update(wait_for=int(CORRECTION_SHARE * NUM_CLIPS), overlap_share=0)
        Workspace.create(root, yaml.safe_dump(raw))
        write_playground(root, seed=arguments.seed, num_clips=NUM_CLIPS, noise_rate=0.5)
    workspace, oracle = Workspace.open(root), Oracle(root / "oracle.parquet")
    with workspace.lock():
        if workspace.clips().is_empty():
            ingest(workspace, [str(root / "corpus")])
        baseline(RoundContext(workspace))
    uris = dict(workspace.clips().select("id", "uri").iter_rows())
    server = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "review", "--config", str(root), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    edits, seconds = {}, {}
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        while (round := current_round(workspace)) <= ROUNDS:
            with workspace.lock():
                run_round(RoundContext(workspace), until="annotate")
            time.sleep(6)  # the server looks for new texts every five seconds
            with sync_playwright() as play:
                browser = play.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
                )
                page = browser.new_page()
                page.goto(f"{url}/invite/{invite(workspace, f'refiner {round}', 'refiner')}")
                page.wait_for_selector("#work:not([hidden])")
                began = time.monotonic()
                edits[round] = refine(page, oracle, uris, int(CORRECTION_SHARE * NUM_CLIPS))
                seconds[round] = time.monotonic() - began
                browser.close()
            with workspace.lock():
                run_round(RoundContext(workspace))
    finally:
        server.kill()
        server.wait(20)
    scores = [test_scores(workspace, oracle, r) for r in range(ROUNDS + 1)]
    print(json.dumps({"round": 0, "slot_f1": asdict(mean_estimate(scores[0]))}))
    for round in range(1, ROUNDS + 1):
        learned = json.loads((workspace.model_folder(round) / "adapter" / "training.json").read_text())["corrections"]
        mine = set(workspace.corrections().filter(refiner=f"refiner {round}")["id"])
        line = {
            "round": round,
            "slot_f1": asdict(mean_estimate(scores[round])),
            "gate": workspace.stage(round, "gate")[1].get("reason"),
            "change": asdict(paired_difference(scores[round], scores[round - 1])),
            "given": len(mine),
            "edits": edits.get(round),
            "seconds": seconds.get(round),
            "learned_by_the_adapter": len(mine & set(learned)),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()

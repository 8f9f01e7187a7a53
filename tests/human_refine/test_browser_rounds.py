"""Two rounds whose corrections all come through the page: a scripted refiner in Chromium who knows the truth, then the
rounds learn."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml

from flywheel.core.config import template
from flywheel.demo import Oracle
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext, run_round
from flywheel.store import Workspace
from human_refine.people import invite
from tests.human_refine.browser_bed import clip_of, opened, pytestmark

#: What makes a round short: nobody looks at what it gained.
_SHORT: dict[str, dict[str, Any]] = {
    "pretrain": {"num_steps": 24, "save_every": 6},
    "finetune": {"num_steps": 8, "min_corrections": 1},
    "loss": {"human_every": 10},
    "evaluate": {"diversity_tokens": 100, "resamples": 200, "agreement_pairs": 8},
    "gate": {"untested": "promote"},
}
pytestmark = [*pytestmark, pytest.mark.slow, pytest.mark.timeout(600)]


def _wait_for_another(lead: httpx.Client, num_texts: int) -> int:
    """How many texts the queue has, as soon as they are others than ``num_texts``: those judged are not in the next."""
    deadline = time.monotonic() + 120
    while (now := lead.get("/api/progress").raise_for_status().json()["of"]) == num_texts:
        assert time.monotonic() < deadline, "the server has not seen the new texts"
        time.sleep(0.3)
    return int(now)


def test_two_rounds_through_the_page(browser: Any, tmp_path: Path) -> None:
    root = tmp_path / "w"
    raw = yaml.safe_load(template())
    for section, values in {**_SHORT, "tracking": {"enabled": False}, "review": {"wait_for": 8}}.items():
        raw[section].update(values)
    write_playground(root, seed=33, num_clips=48, noise_rate=0.5)
    Workspace.create(root, yaml.safe_dump(raw))
    workspace, oracle = Workspace.open(root), Oracle(root / "oracle.parquet")
    with workspace.lock():
        ingest(workspace, [str(root / "corpus")])
    server = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "review", "--config", str(root), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        uris = dict(workspace.clips().select("id", "uri").iter_rows())
        written: dict[str, str] = {}
        lead, num_texts = httpx.Client(base_url=url, follow_redirects=True), 0
        lead.get(f"/invite/{invite(workspace, 'lead', 'lead')}").raise_for_status()
        for round in (1, 2):
            with workspace.lock():
                assert run_round(RoundContext(workspace), until="annotate") is not None
            # The server looks for new texts every five seconds; who comes before gets an older one, and keeps it.
            num_texts = _wait_for_another(lead, num_texts)
            page = opened(browser, f"{url}/invite/{invite(workspace, f'refiner {round}', 'refiner')}")
            assert page.evaluate("item.round") == round
            for _ in range(8):
                clip = clip_of(page)
                true = oracle.text(uris[clip])
                page.keyboard.press("e")
                page.fill("#text", true)
                page.keyboard.press("Control+Enter")
                written[clip] = true
                while str(page.get_attribute("#video", "src")).endswith(clip):
                    page.wait_for_timeout(30)
            page.context.close()
            with workspace.lock():
                run_round(RoundContext(workspace))
            learned = json.loads((root / "models" / f"round={round:03d}" / "adapter" / "training.json").read_text())
            said = workspace.corrections()
            train = set(workspace.clips("train")["id"])
            mine = said.filter((pl.col("refiner") == f"refiner {round}") & pl.col("clip_id").is_in(train))
            wanted = set(mine["id"])
            assert wanted
            assert wanted <= set(learned["corrections"]), "what was said on the page is what the round learned from"
        rows = {
            row["clip_id"]: row["text"]
            for row in workspace.corrections().iter_rows(named=True)
            if row["verdict"] == "edit"
        }
        assert all(rows[clip] == text for clip, text in written.items() if clip in rows)
        assert workspace.corrections().height == workspace.corrections()["clip_id"].n_unique() == 16, (
            "nobody is asked twice"
        )
        assert workspace.stage(2, "gate")[0] == "done"
    finally:
        server.kill()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()
        workspace.database.close()

"""Workspaces made by commit 4262363, at rest and killed in each stage, go on under today's code.

Each is unpacked, opened (which brings it to today's layout, once), and its round is run to its end. The keys of all
records and all texts must be those that the old code ended with; floating point figures may differ by 1e-4.

One kind of key holds floating point: that of a text whose model was trained after the unpacking, since the digest of
its weights is part of it. Of those the clip and the number are compared, not the key.

Where the process that ends the round begins with fine-tuning, the old code's adapter was another one each time. Of the
texts that it wrote the test holds that each is there once, or its reject is; what else such a round has on record is
compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.core.errors import GateRefused
from flywheel.store import Workspace
from flywheel.store.schema import VERSION
from tests.fixtures.old_workspaces import (
    ARCHIVES,
    RECIPES,
    TRAINED,
    UNSEEDED,
    end_round,
    generations_of,
    layout_of,
    records_of,
    unpack,
)

ROOT = Path(__file__).parents[2]
#: What floating point may do between two machines.
TOLERANCE = 1e-4
EXACT = ("clips", "rejected", "corrections", "texts", "champion", "verdict")
CLOSE = ("examples", "noise_signals", "mean_logprobs", "figures")


def command(*arguments: str) -> Any:
    """Run ``flywheel`` in this process; returns the JSON that it printed."""
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, GateRefused):
        raise done.exception
    return json.loads(done.stdout)


def process(*arguments: str) -> Any:
    """The same in a process of its own, as the old code ran."""
    done = subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode in (0, GateRefused.exit_code), done.stderr
    return json.loads(done.stdout)


def models_of(generations: dict[str, list[Any]]) -> set[tuple[str, str]]:
    """Model and adapter, by their digests, of those who wrote these."""
    return {(model, adapter) for _, _, model, adapter in generations.values()}


def written_by(generations: dict[str, list[Any]], models: set[tuple[str, str]]) -> dict[str, list[Any]]:
    return {key: row for key, row in generations.items() if (row[2], row[3]) in models}


def expected(name: str) -> dict[str, Any]:
    """What the old code ended the round with."""
    return dict(json.loads((ARCHIVES / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", RECIPES)
def test_an_old_workspace_is_brought_to_the_new_layout_once(name: str, tmp_path: Path) -> None:
    folder = unpack(name, tmp_path)
    assert layout_of(folder)[0] == expected(name)["layout"] == 3
    Workspace.open(folder).database.close()
    first = layout_of(folder)
    assert first[0] == VERSION
    workspace = Workspace.open(folder)
    assert workspace.clips().height == len(expected(name)["clips"])
    assert all(Path(uri).exists() for uri in workspace.clips()["uri"])
    workspace.database.close()
    assert layout_of(folder) == first, "the second opening changed the tables again"


#: Checked with the unit tests; all others with the slow ones.
QUICK = ("rest",)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES])
def test_an_old_workspace_ends_its_round_as_its_own_code_did(name: str, tmp_path: Path) -> None:
    folder, want = unpack(name, tmp_path), expected(name)
    workspace = Workspace.open(folder)
    before = generations_of(workspace)
    workspace.database.close()
    if name != "rest":
        answer = end_round(folder, process if name in TRAINED else command)
        assert (answer["round"], answer["state"]) == (want["round"], "done")
    # Through JSON, as what is compared with went.
    have = json.loads(json.dumps(records_of(folder, want["round"])))
    models = models_of(before)
    assert written_by(have["generations"], models) == written_by(want["generations"], models)
    assert before.items() <= have["generations"].items()
    if name in UNSEEDED:
        assert answered(have) == answered(want)
        have, want = without_measures(have, want["round"]), without_measures(want, want["round"])
    else:
        rows = [sorted(row[:2] for row in found["generations"].values()) for found in (have, want)]
        assert rows[0] == rows[1]
    for what in EXACT:
        assert have[what] == want[what], what
    if name == "round-2":
        # The old code measured them on texts in the order of their shards, whose borders hang on time.
        for figures in (have["figures"], want["figures"]):
            for key in [key for key in figures if key.startswith("annotate/corpus/")]:
                del figures[key]
    # Later versions say it besides.
    have["figures"].pop("gate/p_not_worse", None)
    for what in CLOSE:
        assert have[what].keys() == want[what].keys(), what
        assert have[what] == pytest.approx(want[what], abs=TOLERANCE), what


def answered(records: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Round, form and clip of all that has a text or a reject, each once."""
    texts = [(round, form, clip_id) for round, form, clip_id, _ in records["texts"].values()]
    rejects = [(round, form, clip_id) for round, stage, form, clip_id in records["rejected"] if stage == "annotate"]
    return sorted({*texts, *rejects})


def without_measures(records: dict[str, Any], round: int) -> dict[str, Any]:
    """The records without the round's texts that measure its model, and without figures of them."""
    gone = {i for i, text in records["texts"].items() if text[:2] == [round, "evaluation"]}
    kept = {what: {i: v for i, v in records[what].items() if i not in gone} for what in ("texts", "mean_logprobs")}
    rejected = [row for row in records["rejected"] if row[:3] != [round, "annotate", "evaluation"]]
    steps = ("annotate/", "num_corrections", "finetune/steps", "finetune/examples")
    figures = {path: value for path, value in records["figures"].items() if path.startswith(steps)}
    return {**records, **kept, "rejected": rejected, "figures": figures}


@pytest.mark.slow
def test_an_old_workspace_at_rest_goes_on_with_its_next_round(tmp_path: Path) -> None:
    folder = unpack("rest", tmp_path)
    before = records_of(folder, 1)
    assert command("status", "--config", str(folder), "--json")["round"] == 2
    answer = command("round", "--config", str(folder), "--json")
    assert (answer["round"], answer["state"]) == (2, "done")
    after = records_of(folder, 1)
    assert before["texts"].items() <= after["texts"].items()
    assert {row[0] for row in after["texts"].values()} == {0, 1, 2}
    assert set(before["generations"]) <= set(after["generations"])

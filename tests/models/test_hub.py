"""A model by its id on a hub: fetched by the hub's own library from a hub on this machine, found again offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.models.hub import is_hub_id
from flywheel.playground.tiny import bundled_model
from tests.models.hub_server import hub_of


def test_ids_are_told_from_paths() -> None:
    for name in ("Qwen/Qwen3-VL-2B-Instruct", "some-people/a_model.v2"):
        assert is_hub_id(name)
    for name in ("bundled", "/models/a", "./models/a", "models/a/b", "~/a", "../a", "a b/c", "C:\\models\\a"):
        assert not is_hub_id(name), name


@pytest.mark.slow
def test_a_model_is_fetched_by_its_id_and_found_offline(tmp_path: Path) -> None:
    """And a model that is on no hub, and a hub that is away, are one line with the way on."""
    (tmp_path / "flywheel.yaml").write_text("models: {main: {folder: some-people/tiny}}\n")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flywheel.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, "HF_HOME": str(tmp_path / "hf"), **more},
            check=False,
        )

    with hub_of("some-people/tiny", bundled_model()) as url:
        asked = run("download", HF_ENDPOINT=url)
        assert asked.returncode == 2
        assert "some-people/tiny: 0.0 GiB to fetch\ndownload: nothing was done. Say --yes" in asked.stderr
        other = run("download", "--yes", "--set", "models.main.folder=some-people/other", HF_ENDPOINT=url)
        assert other.returncode == 1
        assert "some-people/other: can't be downloaded" in other.stderr
        made = run("download", "--yes", HF_ENDPOINT=url)
        assert made.returncode == 0, made.stderr
        assert "Next: flywheel doctor" in made.stderr
    there = Path(made.stdout.strip().partition(": ")[2])
    assert {file.name for file in there.iterdir()} >= {"config.json", "model.safetensors", "processor_config.json"}
    found = run("doctor", HF_HUB_OFFLINE="1")
    assert f"ok   model: {there}\n" in found.stdout
    (there / "model.safetensors").unlink()
    assert "fail model: some-people/tiny: no such model folder" in run("doctor", HF_HUB_OFFLINE="1").stdout

"""Presets hold what the plan computes; ``init`` picks what fits, and says in one line where nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flywheel.core.config import PRESETS, parse_config, preset
from flywheel.rounds import presets
from tests.plugins import Command

REAL = [name for name in PRESETS if "shape" in preset(name)]


def test_all_presets_are_there_with_numbers_for_every_model() -> None:
    wanted = {
        "qwen3-vl-2b",
        "qwen3-vl-4b",
        "qwen3-vl-8b",
        "qwen3-vl-32b",
        "smolvlm2",
        "llava-onevision",
        "qwen2.5-omni",
    }
    assert set(REAL) == wanted
    for name in REAL:
        assert parse_config(dict(PRESETS[name])).main.folder == preset(name)["model"]
        assert len(preset(name)["expected"]) >= 3, "of six mixes of devices, which are stated"


@pytest.mark.slow
def test_the_files_numbers_are_the_plans() -> None:
    """Of the smallest model all; `python -m flywheel.rounds.presets` leaves all files as they are."""
    assert presets.expected("smolvlm2") == preset("smolvlm2")["expected"]


@pytest.mark.slow
def test_init_picks_what_fits_and_refuses_what_does_not(
    commandline: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two GPUs of unequal memory: the smaller counts."""
    asked = ("--preset", "smolvlm2", "--gpus", 2, "--gpu-memory", 24, "--gpu-memory", 80)
    assert commandline("init", tmp_path / "w", *asked) == 0
    err = capsys.readouterr().err
    assert "the smallest, 24 GiB, counts" in err
    assert "shared by" in err
    config = parse_config(yaml.safe_load((tmp_path / "w" / "flywheel.yaml").read_text()))
    assert (config.train.devices, config.main.engine) == (2, "vllm")
    assert config.main.options["tensor_parallel_size"] == 2
    assert commandline("init", tmp_path / "x", "--preset", "smolvlm2", "--gpu-memory", 4) == 2
    err = capsys.readouterr().err.strip()
    assert len(err.splitlines()) == 1
    assert "smolvlm2: fits 1 x 4 GiB in no way, not even as a LoRA. Take 1 x 24 GiB" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--gpus", 2), "also say --gpu-memory"),
        (("--gpu-memory", 80), "--preset playground: is for no GPU"),
        (("--preset", "nope", "--gpu-memory", 80), "There are playground"),
        (("--gpus", 3, "--gpu-memory", 80, "--gpu-memory", 40), "2 values for 3 GPUs"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    asked: tuple[object, ...],
    message: str,
    commandline: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commandline("init", tmp_path / "w", *asked) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1

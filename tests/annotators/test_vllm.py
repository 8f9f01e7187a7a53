"""The bundled model in real vLLM: the same greedy text and log-probs as transformers, with an adapter and without, and the proof."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.annotators.test_proof import adapter_of

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in ((1, "new"), (2, "old")):
        adapter_of(folder / name, seed)
    environment = {
        **os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.annotators.real_vllm", str(folder)], capture_output=True, text=True, timeout=540,
        env=environment, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT"))
    return answer


@pytest.mark.parametrize("which", ["base", "adapter"])
def test_vllm_writes_what_transformers_writes(found: dict[str, Any], which: str) -> None:
    share, far = found[which]
    assert share >= 0.95
    assert far <= 1e-3


def test_the_adapter_is_proven_in_vllm(found: dict[str, Any]) -> None:
    proof = found["proof"]
    assert proof["to_adapter"] <= 1e-3, proof
    assert proof["to_base"] > 3e-3, proof


@pytest.mark.parametrize("wrong", ["base as new", "old as new"])
def test_another_adapter_or_none_is_refused(found: dict[str, Any], wrong: str) -> None:
    assert "does not write what the adapter writes" in found[wrong]["refused"]


def test_a_request_that_is_too_long_fails_alone(found: dict[str, Any]) -> None:
    finish, reason, *others = found["too long"]
    assert finish == "error"
    assert "512" in reason
    assert others == ["stop", "stop"]


def test_sampled_text_does_not_depend_on_the_batch(found: dict[str, Any]) -> None:
    assert found["sampled alike"] >= 11 / 12

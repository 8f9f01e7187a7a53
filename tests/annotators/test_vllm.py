"""The bundled model in real vLLM: the same greedy text and log-probs as transformers, with an adapter and without,
and the proof."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flywheel.core.config import template
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.store import Workspace
from tests.annotators.real_vllm import OPTIONS, SCHEMA
from tests.annotators.test_proof import adapter_of

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

ENVIRONMENT = {
    **os.environ,
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in ((1, "new"), (2, "old")):
        adapter_of(folder / name, seed)
    done = subprocess.run(
        [sys.executable, "-m", "tests.annotators.real_vllm", str(folder)],
        capture_output=True,
        text=True,
        timeout=540,
        env=ENVIRONMENT,
        check=False,
        cwd=Path(__file__).parents[2],
    )
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
    assert proof["verdict"] == "proven", proof
    assert proof["to_adapter"] <= 1e-3, proof
    assert proof["to_base"] > 3e-3, proof


@pytest.mark.parametrize("wrong", ["base as new", "old as new"])
def test_another_adapter_or_none_is_refused(found: dict[str, Any], wrong: str) -> None:
    assert found[wrong]["verdict"] == "refuted", found[wrong]


def test_a_request_that_is_too_long_fails_alone(found: dict[str, Any]) -> None:
    finish, reason, *others = found["too long"]
    assert finish == "error"
    assert "512" in reason
    assert others == ["stop", "stop"]


def test_sampled_text_does_not_depend_on_the_batch(found: dict[str, Any]) -> None:
    assert found["sampled alike"] >= 11 / 12


def test_replies_are_held_to_a_schema_as_in_transformers(found: dict[str, Any]) -> None:
    share, far, fitting = found["guided"]
    assert fitting == 16
    assert share >= 0.95
    assert far <= 1e-3


def test_a_schema_that_vllm_cannot_compile_is_one_line_and_ends_no_engine(found: dict[str, Any]) -> None:
    assert found["impossible"].startswith("vLLM can't compile the prompt's json_schema"), found["impossible"]
    assert "\n" not in found["impossible"]
    assert "error" not in found["after it"]


def rounds_of_adapters(root: Path, corpus: Path, engine: str, *settings: str) -> tuple[Workspace, list[str]]:
    """A workspace whose round 1 made an adapter that is champion,
    and the command that writes round 2's texts with it."""
    Workspace.create(root, template())
    workspace = Workspace.open(root)
    with workspace.lock():
        ingest(workspace, [str(corpus / "corpus")])
        adapter_of(workspace.model_folder(1) / "adapter", 1)
        workspace.promote(1, "for the test")
    prompt = root / "cues.yaml"
    prompt.write_text(
        yaml.safe_dump(
            {
                "name": "cues",
                "version": 1,
                "kind": "dense_caption",
                "instruction": "List what happens.",
                "hints": {"timed_transcript": "Transcript: {text}"},
                "json_schema": json.loads(SCHEMA),
                "max_new_tokens": 160,
            }
        )
    )
    options = [f"--set=annotate.options.{name}={json.dumps(value)}" for name, value in OPTIONS.items()]
    command = [
        sys.executable,
        "-m",
        "flywheel.cli",
        "annotate",
        "--config",
        str(root),
        "--json",
        "--limit",
        "8",
        f"--set=annotate.engine={engine}",
        f"--set=annotate.also=[{prompt}]",
        "--set=annotate.max_tries=1",
        *options,
        *(f"--set={s}" for s in settings),
    ]
    return workspace, command


def check_round(workspace: Workspace, command: list[str]) -> dict[str, Any]:
    """Run it twice: written once, with both kinds, by the proven adapter."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["by"] == 1
    assert answer["proof"]["to_adapter"] <= 1e-3 < answer["proof"]["to_base"], answer["proof"]
    assert answer["also"]["dense_caption"]["written"] == 8, answer["also"]
    # The adapter is a random one, so its captions may be loops: what counts is that each is written or has its reason.
    assert answer["written"] + answer["rejected"] == 8
    cues = workspace.annotations(kind="dense_caption")
    assert cues["clip_id"].n_unique() == cues.height == 8
    assert all(json.loads(payload)["cues"] for payload in cues["payload"])
    assert workspace.generations()["adapter"].unique().len() == 1
    return answer


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_playground(folder, seed=6, num_clips=14, noise_rate=0.3)
    return folder


def test_a_round_is_written_by_vllm(tmp_path: Path, few: Path) -> None:
    check_round(*rounds_of_adapters(tmp_path / "w", few, "vllm"))


def test_a_round_is_written_by_a_pool(tmp_path: Path, few: Path) -> None:
    workspace, command = rounds_of_adapters(tmp_path / "w", few, "openai")
    options = [part for part in command if part.startswith("--set=annotate.options")]
    serve = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "serve", "--config", str(workspace.root), *options],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert serve.stdout is not None
    try:
        url = serve.stdout.readline().split()[0]
        # One that is not there beside one that is: the round goes on with the other.
        answer = check_round(workspace, [*command, f"--set=annotate.servers=[{url}, http://127.0.0.1:9]"])
        assert answer["busy_share"] > 0
        impossible = yaml.safe_load((workspace.root / "cues.yaml").read_text())
        impossible["json_schema"]["properties"]["cues"]["items"]["properties"]["text"] = {
            "type": "string",
            "pattern": "(?<=x)y",
        }
        (workspace.root / "cues.yaml").write_text(yaml.safe_dump(impossible))
        done = subprocess.run(
            [*command, f"--set=annotate.servers=[{url}]"],
            capture_output=True,
            text=True,
            timeout=300,
            env=ENVIRONMENT,
            check=False,
        )
        assert done.returncode == 2, done.stderr[-2000:]
        assert "json_schema" in done.stderr.strip().splitlines()[-1]
    finally:
        serve.terminate()
        serve.wait(30)
        serve.stdout.close()

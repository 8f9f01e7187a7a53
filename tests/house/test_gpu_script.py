"""The script for a GPU, as far as it goes without one: parts end in every way that they can."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments/gpu/run.py"
PARTS = {
    "fine": """
import pathlib, sys
pathlib.Path(sys.argv[2]).write_text('{"seconds": %s}\\n' % sys.argv[4])
""",
    "lacking": "import sys; print('liger-kernel is missing', file=sys.stderr); sys.exit(3)",
    "failing": "raise ValueError('the kernel failed')",
    "slow": """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
pathlib.Path(sys.argv[2]).write_text('{"child": %s}\\n' % child.pid)
print("at shape 2", flush=True)
time.sleep(60)
""",
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Its dataclass looks there.
    spec.loader.exec_module(module)
    return module


def runs(process: int) -> bool:
    """Whether it is alive; one that nobody waited for is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_parts_end_in_every_way(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured stays, the reasons of what was left out stand in the last line, no process is left behind."""
    monkeypatch.setattr(script, "SHARES", {"fine": 1, "lacking": 1, "failing": 1, "slow": 1, "none": 1, "late": 1})
    for name, text in PARTS.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "late.py").write_text(PARTS["fine"])
    out, parts = tmp_path / "out", [*PARTS, "none"]
    out.mkdir()
    outcomes = script.run_parts(parts, out, time.monotonic() + 1.5, tmp_path, os.environ, [])
    outcomes += script.run_parts(["late"], out, time.monotonic() - 1, tmp_path, os.environ, [])
    script.report(outcomes, out)
    printed = capsys.readouterr().out.splitlines()
    left_out = json.loads(printed[-1])["left_out"]
    assert list(left_out) == ["lacking", "failing", "slow", "none", "late"]
    assert left_out["lacking"] == "liger-kernel is missing"
    assert left_out["failing"].startswith("exit 1")
    assert left_out["failing"].endswith("ValueError: the kernel failed")
    assert left_out["slow"].startswith("over its limit")
    assert left_out["slow"].endswith("at shape 2")
    assert left_out["none"] == "there is no such script yet"
    assert left_out["late"] == "no time was left"
    assert any(line.startswith('{"seconds": 0.3') for line in printed), printed
    child = json.loads((out / "slow.jsonl").read_text())["child"]
    until = time.monotonic() + 10
    while runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs(child)
    assert json.loads((out / "run.jsonl").read_text().splitlines()[0])["exit"] == 0


def test_without_a_gpu_it_says_so(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if script.has_gpu():
        pytest.skip("there is a GPU")
    assert script.main(["--out", str(tmp_path / "out")]) == 3
    assert "no NVIDIA GPU here" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--parts", "los"], ["--parts", ","], ["--wheels", "nowhere"]])
def test_wrong_arguments(script: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        script.main(arguments)
    assert caught.value.code == 2


@pytest.mark.slow
def test_the_bench_of_losses_compares_with_float32(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the CPU it measures nothing; that ours are right is seen there too."""
    assert script.main(["--tiny", "--parts", "loss", "--seconds", "60", "--out", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    right = {line["way"]: line.get("right") for line in lines if line["what"] == "loss"}
    assert all(right[f"{name}, torch"] for name in ("mle", "tailr", "adatailr", "adatailr, rule sharpness"))
    assert right["full logits"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"left_out": {}}

"""What foreign text does to a terminal: nothing. It is written with escapes, and no line of it passes for ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.cli._shared import print_text
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say
from flywheel.core.types import Annotation, Correction
from flywheel.status import history_of
from flywheel.store import Workspace
from tests.plugins import Command

ROOT = Path(__file__).resolve().parents[2]
#: Sets the title, clears the screen, goes up a line, and turns the writing.
_ATTACK = "\x1b]0;owned\x07\x1b[2J\x1b[1A\x9b2J\u202e\udce9"
_PRINTS = re.compile(r"(?<![\w.])print\(|typer\.s?echo\(|sys\.std(?:out|err)\.write")


def _is_harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.fixture(autouse=True)
def _here(ingested: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ingested.root)


@pytest.mark.slow
def test_what_is_shown_of_a_clip(ingested: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str]) -> None:
    clip_id = ingested.clips()["id"][0]
    text = f"seen {_ATTACK[:-1]}\nround 9 caption by model: forged"
    common = {"round": 1, "kind": "caption", "clip_id": clip_id, "generation_id": "", "mean_logprob": 0.0}
    with ingested.lock():
        ingested.add_annotations([Annotation(id="a1", source="a\x1b[2Jb", text=text, **common)], round=1)
    said = {"annotation_id": "a1", "clip_id": clip_id, "refiner": "r\x1b[2J", "at": datetime.now(UTC)}
    ingested.add_corrections([Correction(id="c1", verdict="edit", text=text, **said)])
    ingested.add_rejected(round=0, stage="ingest", uri="x", clip_id=clip_id, reason=f"{text}")
    assert str(history_of(ingested, clip_id)).count("\n") == 3 + ("transcript" in str(history_of(ingested, clip_id)))
    for arguments in (["show", clip_id], ["show", clip_id, "--json"], ["status"], ["corrections", "uses"]):
        assert commandline(*arguments) == 0
        assert _is_harmless(capsys.readouterr().out), arguments


@pytest.mark.slow
def test_files_of_corrections_say_nothing_to_the_terminal(
    ingested: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a\x1b[2J.csv"
    file.write_text("annotation_id,verdict\n" + f'"{_ATTACK[:-1]}\nall good",edit\n')
    assert commandline("corrections", "import", str(file)) == 2
    assert commandline("corrections", "import", str(tmp_path / "gone\x1b[2J.csv")) == 2
    assert commandline("ingest", str(tmp_path / "caf\udce9\x1b[2J")) == 2
    out, err = capsys.readouterr()
    assert "\\x1b[2J" in err
    assert _is_harmless(out + err)


def test_the_borders(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(f"a\tb\n{_ATTACK}")
    say(f"one line\n{_ATTACK}")
    out, err = capsys.readouterr()
    assert out == "a\tb\n\\x1b]0;owned\\x07\\x1b[2J\\x1b[1A\\x9b2J\\u202e\\udce9\n"
    assert err.count("\n") == 1
    assert _is_harmless(err)
    assert as_lines(["a\nb", "c"]) == "a\\nb\nc"


def test_nothing_else_prints() -> None:
    """Whatever reaches the terminal goes through the two functions that escape."""
    allowed = {"flywheel/cli/_shared.py": 1, "flywheel/core/progress.py": 1}
    for package in ("flywheel", "human_refine", "annotators", "trainers", "noise_control"):
        for path in (ROOT / package).rglob("*.py"):
            prints = _PRINTS.findall(path.read_text())
            name = str(path.relative_to(ROOT))
            assert len(prints) == allowed.get(name, 0), name


#: What libraries write to stdout while a command works: as Python, as C does, and from a process of theirs.
_NOISY = """
import os, subprocess, sys
from flywheel import cli
from flywheel.store import browse
find = browse.find_clips

def noisy(*arguments):
    print("[WARNING] by Python")
    os.write(1, b"[WARNING] by C\\n")
    subprocess.run([sys.executable, "-S", "-c", "print('[WARNING] by a child')"], check=True)
    return find(*arguments)

browse.find_clips = noisy
cli.main()
"""


@pytest.mark.slow
def test_stdout_is_the_result_alone_whatever_libraries_write(ingested: Workspace) -> None:
    command = [sys.executable, "-c", _NOISY, "clips", "--json", "--limit", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["clips"]) == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("[WARNING]")] == [
        "[WARNING] by Python",
        "[WARNING] by C",
        "[WARNING] by a child",
    ]

"""A benchmark is asked of a model: what is on record is not asked again, and what can't be asked is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import Command, Plugin

#: Answers with the letter of the option that says "right", notes what it was asked, and fails on request.
_ENGINE = """
    import re
    from pathlib import Path

    from annotators.interface import Result, failed

    class Engine:
        def __init__(self, log):
            self.log = Path(log)

        def generate(self, requests, sampling):
            for request in requests:
                with self.log.open("a") as out:
                    out.write(request.prompt.splitlines()[0] + "\\n")
                if "fail" in request.prompt:
                    yield failed(request, "too long for the model")
                    continue
                letter = re.search(r"^([A-J])\\. right", request.prompt, re.M)
                text = f"The answer is {letter[1]}." if letter else "I can't tell."
                known = dict(token_ids=(1,), logprobs=(0.0,), tokens_in=1, finish="stop", seconds=0.0)
                yield Result(key=request.key, text=text, **known)

        def parts(self):
            return [self]

        def close(self):
            pass

    def reading(log):
        return Engine(log)

    reading.needs_model = False
"""


def _items(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    base = {"question": "what?", "candidates": ["wrong", "right"], "answer": "right"}
    return [
        {**base, **change, "question": f"{change.get('question', 'what?')} {n}"} for n, change in enumerate(changes)
    ]


@pytest.fixture
def here(ingested: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a workspace, gone to."""
    root: Path = ingested.root
    monkeypatch.chdir(root)
    return root


@pytest.mark.slow
def test_a_run_asks_once_and_says_what_it_could_not_ask(
    here: Path, corpus: Path, plugin: Plugin, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin("flywheel.annotators.engines", "reading = their_engine:reading", _ENGINE)
    videos = here / "videos"
    (videos / "deep").mkdir(parents=True)
    for number, place in enumerate(("0.mp4", "deep/1.mp4", "deep/2_video.mp4")):
        shutil.copy(corpus / "corpus" / f"clip-{number:05d}.mp4", videos / place)
    (videos / "3.mp4").write_bytes(b"no video")
    (videos / "deep" / "0.mp4").write_bytes(b"")
    items = _items(
        {"video": "0.mp4"},
        {"video": "1"},
        {"video": "2", "start": 0.5, "end": 1.5, "answer": "wrong"},
        {"video": "0.mp4", "candidates": ["this", "that"], "answer": "this"},
        {"video": "3.mp4"},
        {"video": "4.mp4"},
        {"video": "elsewhere/0.mp4"},
        {"video": "1", "start": 3, "end": 99},
        {"video": "1", "question": "fail"},
        {"video": "1", "answer": "neither"},
    )
    file, log = here / "t.json", here / "log.txt"
    file.write_text(json.dumps(items))
    arguments = ("benchmark", "run", file, "--format", "mvbench", "--videos", videos, "--json", "--max-new-tokens", 32)
    engine = ("--set", "models.main.engine=reading", "--set", f"models.main.options={{log: {log}}}")
    assert commandline(*arguments, *engine) == 0
    found = json.loads(capsys.readouterr().out)
    accuracy = found["accuracy"]
    assert (accuracy["value"], accuracy["n"], found["asked"], found["of"]) == (0.5, 4, 4, 10)
    assert found["by_type"]["t"]["value"] == 0.5
    assert (found["unparsed"], [reply["reply"] for reply in found["unparsed_replies"]]) == (1, ["I can't tell."])
    reasons = [reject["reason"] for reject in found["rejected"]]
    assert [any(words in reason for reason in reasons) for words in (
        "no option", "not a readable video", "'4.mp4' is not in", "is several files", "beyond its video's", "too long",
    )] == [True] * 6  # fmt: skip
    assert log.read_text().splitlines() == ["what? 0", "what? 1", "what? 2", "what? 3", "fail 8"]
    # Again: what failed is tried again, and a line that broke off; nothing else.
    record = next(here.glob("benchmarks/mvbench-*/answers.jsonl"))
    record.write_bytes(record.read_bytes()[:-20])
    assert commandline(*arguments, *engine) == 0
    again = json.loads(capsys.readouterr().out)
    assert log.read_text().splitlines()[5:] == ["what? 3", "fail 8"]
    assert {name: again[name] for name in found if name != "reused"} == {
        n: v for n, v in found.items() if n != "reused"
    }
    assert (found["reused"], again["reused"]) == (0, 3)
    assert len(record.read_bytes().splitlines()) == 5
    assert commandline(*arguments, *engine, "--limit", 1) == 0
    assert "--by generation --max-new-tokens 32 --model main  # asks the rest" in capsys.readouterr().err


@pytest.mark.slow
def test_what_cant_be_run_is_said_at_once(
    here: Path, corpus: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    file = here / "t.json"
    file.write_text(json.dumps(_items({"video": "none.mp4"})))
    known = ("benchmark", "run", file, "--format", "mvbench", "--set", "models.main.engine=fake", "--videos")
    for arguments, words in (
        ((*known, here / "nowhere"), "there is no such folder"),
        ((*known, corpus, "--by", "guess"), "--by guess: need generation or likelihood"),
        ((*known, corpus, "--by", "likelihood"), "engine 'fake' gives no log-probs"),
        ((*known, corpus, "--inputs", "smell"), "--inputs smell: need frames, sound, or both"),
        ((*known, corpus), "none of 1 items can be asked"),
        ((*known, corpus, "--model", "nobody"), "--model nobody: is no role (main), and no folder of a model."),
    ):
        assert commandline(*arguments) == 2, words
        assert words in capsys.readouterr().err
    assert commandline("benchmark", "formats") == 0
    assert "next-qa  (NExT-QA): doc-doc/NExT-QA" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(here: Path, corpus: Path) -> None:
    """Killed with SIGKILL between answers; the next run asks the others, and each is on record once."""
    file = here / "t.json"
    names = sorted(path.name for path in (corpus / "corpus").glob("*.mp4"))
    file.write_text(json.dumps(_items(*({"video": name} for name in names))))
    command = [sys.executable, "-m", "flywheel.cli", "benchmark", "run", file, "--format", "mvbench", "--json"]
    command += ["--videos", corpus, "--set", "models.main.engine=fake"]
    slow = [*command, "--set", "models.main.options={seconds_per_batch: 0.1, batch_size: 1}"]
    with subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        record = here / "benchmarks" / "mvbench-fake" / "answers.jsonl"
        gives_up = time.monotonic() + 60
        while not (record.exists() and record.read_bytes().count(b"\n") >= 5) and time.monotonic() < gives_up:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    before = record.read_bytes().count(b"\n")
    assert 5 <= before < len(names)
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (done["asked"], done["reused"], done["unparsed"]) == (len(names), before, len(names))
    keys = [json.loads(line)["key"] for line in record.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == len(names)


@pytest.mark.slow
def test_bundled_models_are_asked_and_one_without_ears_is_refused(
    here: Path, corpus: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tiny models that were never asked a question: what they say names no option, their likeliest letter does."""
    file = here / "t.json"
    file.write_text(json.dumps(_items({"video": "clip-00000.mp4"}, {"video": "clip-00001.mp4"})))
    arguments = ("benchmark", "run", file, "--format", "mvbench", "--videos", corpus, "--json")
    assert commandline(*arguments, "--max-new-tokens", 8) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["asked"], said["unparsed"], said["accuracy"]["value"]) == (2, 2, 0.0)
    assert commandline(*arguments, "--by", "likelihood") == 0
    likely = json.loads(capsys.readouterr().out)
    assert (likely["asked"], likely["unparsed"], likely["reused"]) == (2, 0, 0)
    assert commandline(*arguments, "--inputs", "frames,sound") == 2
    assert "--inputs frames,sound:" in (heard := capsys.readouterr().err)
    assert "its processor takes no audio. Choose a model that hears." in heard
    assert commandline(*arguments, "--model", "bundled-ears", "--inputs", "sound", "--limit", 1) == 0
    assert json.loads(capsys.readouterr().out)["hearing"]["ears"] == "hears"

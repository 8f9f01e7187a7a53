"""Ranks are watched: where one ends, all end, and the line says which and why."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from flywheel.core.errors import BorderError, FlywheelError, UserError
from trainers import launch
from trainers.launch import Ranks, run_ranks

#: A rank that does what its folder's file of its number says, and needs no library.
RANK = """
import json, os, sys, time
from pathlib import Path

folder, rank = Path(sys.argv[1]), os.environ["RANK"]
file = folder / f"rank-{rank}.json"
file.write_text(json.dumps({"step": 3 + int(rank), "pid": os.getpid()}))
exec((folder / f"does-{rank}").read_text())
"""
FAILS = """
(folder / f"error-{rank}.json").write_text(json.dumps(dict(%r, at=time.time())))
os._exit(1)
"""
WAITS = "time.sleep(60)"


class Bar:
    """Counts steps."""

    steps = 0

    def advance(self, count: int = 1) -> None:
        self.steps += count


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs ranks, each by its code; gives the steps that were shown."""
    (tmp_path / "a_rank.py").write_text(RANK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(launch, "_LAST_WORDS_S", 0.3)

    def run(*codes: str) -> int:
        for rank, code in enumerate(codes):
            (tmp_path / f"does-{rank}").write_text(code)
        bar = Bar()
        run_ranks("a_rank", tmp_path, Ranks(count=len(codes), timeout_s=7.0), label="pretrain", bar=bar)
        return bar.steps

    return run


def pids(folder: Path) -> list[int]:
    return [int(launch.read_json(file)["pid"]) for file in folder.glob("rank-*.json")]


def error(**values: object) -> str:
    return FAILS % {"message": "m", "code": "", "exit": 1, "own": True, **values}


def test_all_through_is_no_error_and_steps_are_shown(run) -> None:  # type: ignore[no-untyped-def]
    assert run("", "time.sleep(0.3)") == 3


def test_a_killed_rank_is_named_and_ends_the_others(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    message = (
        r"^pretrain: rank 1 was ended by SIGKILL; so the system does where memory is short: lower the batch size\."
    )
    with pytest.raises(BorderError, match=message):
        run(WAITS, f"os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert time.monotonic() - began < 20
    for pid in pids(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_the_user_must_mend_stays_that(run) -> None:  # type: ignore[no-untyped-def]
    """Another rank that says only that this one is gone is not to blame, though it was first."""
    blames = error(own=False, message="the ranks: Connection closed by peer", code="ranks")
    mend = error(message="pretrain: lower it", exit=2)
    with pytest.raises(UserError, match=r"^pretrain: rank 1: lower it$"):
        run(blames, f"time.sleep(0.1)\n{mend}")
    with pytest.raises(FlywheelError, match=r"^pretrain: rank 0: most can't be read$") as raised:
        run(error(message="most can't be read", code="unreadable"), WAITS)
    assert raised.value.code == "unreadable"


def test_ranks_that_waited_in_vain_name_the_one_behind(run) -> None:  # type: ignore[no-untyped-def]
    vain = error(own=False, message="the ranks: Timed out waiting 7000ms for recv", code="ranks")
    message = r"^pretrain: rank 1 \(at step 4\) did not answer the others within 7 s \(train\.timeout_s\).*Timed out"
    with pytest.raises(BorderError, match=message):
        run(vain, WAITS)


def test_a_rank_that_says_nothing_leaves_its_last_line(run) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BorderError, match=r"^pretrain: rank 0 ended with exit 9: a last word\. Run the same command"):
        run("print('a last word', flush=True); os._exit(9)", WAITS)

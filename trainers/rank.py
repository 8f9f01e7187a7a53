"""One rank of a training: it joins the others, does its work, and says by file how far it is and what ended it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flywheel.core.errors import BorderError, FlywheelError
from trainers.border import foreign_failures
from trainers.launch import STARTER

#: Seconds that a rank waits for one of an earlier start to end.
_MOST_WAIT_S = 60.0
_TIMEOUT_S = 1800.0


def run_rank(folder: Path, work: Callable[[], None], *, section: str) -> None:
    """Do a rank's work among the others; never returns: the process ends, with 1 where the work failed.

    ``section`` of the configuration says how it is trained.
    """
    rank = int(os.environ.get("RANK", "0"))
    _end_with_starter()
    try:
        with _alone(folder, rank), foreign_failures(section):
            _join(rank)
            work()
            _leave()
    except BaseException as error:
        traceback.print_exc()
        _write(folder / f"error-{rank}.json", _described(error))
        # The others may be gone, and what is left open would wait for them.
        os._exit(1)
    os._exit(0)


class FileSink:
    """Keeps a training's figures in a file, a line each, for who started the ranks."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.unlink(missing_ok=True)

    def log(self, values: Mapping[str, float], step: int) -> None:
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps([dict(values), step]) + "\n")


class StepFile:
    """Progress of a rank that is read from its file."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._file, self._step = folder / f"rank-{rank}.json", 0

    def advance(self, count: int = 1) -> None:
        self._step += count
        _write(self._file, {"step": self._step, "pid": os.getpid()})


def logged(file: Path) -> list[tuple[dict[str, float], int]]:
    """What a :class:`FileSink` kept."""
    if not file.exists():
        return []
    return [(dict(values), int(step)) for values, step in map(json.loads, file.read_text().splitlines())]


def _described(error: BaseException) -> dict[str, Any]:
    """An error for who started the ranks; ``own`` is False where another rank is to blame."""
    others = isinstance(error, BorderError) and error.code == "ranks"
    line = str(error).strip().split("\n")[0] or type(error).__name__
    message = line if isinstance(error, FlywheelError) else f"{type(error).__name__}: {line}"
    return {
        "message": message,
        "code": getattr(error, "code", "") or "",
        "exit": getattr(error, "exit_code", 1),
        "own": not others,
        "at": time.time(),
    }


def _write(file: Path, values: Mapping[str, Any]) -> None:
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(json.dumps(values))
    temporary.replace(file)


def _join(rank: int) -> None:
    """Meet the other ranks: in a file on one machine, else at the address that the launcher gave."""
    import torch

    count = int(os.environ.get("WORLD_SIZE", "1"))
    timeout = timedelta(seconds=float(os.environ.get("FLYWHEEL_RANK_TIMEOUT_S", _TIMEOUT_S)))
    meet = os.environ.get("FLYWHEEL_MEET")
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    elif meet:
        # A machine's own name need not lead to it.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    torch.distributed.init_process_group(
        "nccl" if gpus else "gloo",
        init_method=f"file://{meet}" if meet else "env://",
        rank=rank,
        world_size=count,
        timeout=timeout,
    )


def _leave() -> None:
    """Wait until all are through, so that none ends while another still asks it."""
    import torch

    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _alone(folder: Path, rank: int) -> Iterator[None]:
    """Hold this rank's place: where the round was killed and run again, the rank before may take a moment to end."""
    end = time.monotonic() + _MOST_WAIT_S
    with (folder / f"rank-{rank}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    message = f"{folder}: rank {rank} of an earlier start still runs. End that process, and run again."
                    raise FlywheelError(message, code="busy") from error
                time.sleep(0.2)
        yield


def _end_with_starter() -> None:
    """End this process soon after the one that started the ranks is gone, also where that was killed."""
    starter, parent = os.environ.get(STARTER, ""), os.getppid()
    host, _, pid = starter.rpartition(":")
    if not pid or host not in ("", socket.gethostname()):
        return

    def watch() -> None:
        while os.getppid() == parent and _lives(int(pid)):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="starter").start()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

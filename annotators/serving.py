"""A local ``vllm serve`` in a process group of its own, which ends with whoever started it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from annotators.causes import advice, root_cause
from annotators.interface import media_limits
from flywheel.core.errors import BorderError, UserError
from flywheel.models.load import folder_digest

_PR_SET_PDEATHSIG = 1
#: How long a server may take to end when asked, before it is killed; seconds.
_GRACE_S = 10.0


@dataclass
class LocalServer:
    """A running server. ``stop`` ends its whole group, and may be called twice."""

    url: str
    process: subprocess.Popen[bytes]
    note: Path
    log: Path

    def stop(self) -> None:
        end_group(self.process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S)
        self.note.unlink(missing_ok=True)


def start(
    model: Path,
    workspace: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    max_lora_rank: int = 64,
    options: dict[str, Any] | None = None,
    wait_s: float = 600.0,
    inputs: Collection[str] = ("frames",),
) -> LocalServer:
    """Serve a model folder on ``host``; adapters are loaded on request. Servers that killed processes of this machine
    left behind in this workspace are ended first. Returns when it answers. Raises UserError for a port that is taken,
    BorderError where it does not come up."""
    # Machines share workspaces, and a process has its number on one of them.
    here = f"serve-{re.sub(r'[^A-Za-z0-9.-]', '_', socket.gethostname())}"
    for note in sorted(workspace.glob(f"{here}-*.json")):
        # Not those of a machine whose name begins like this one's.
        if re.fullmatch(rf"{re.escape(here)}-\d+", note.stem):
            reap(note)
    port = port or _free_port(host)
    note, log = (workspace / f"{here}-{port}.{kind}" for kind in ("json", "log"))
    if note.exists():
        # Its server may not have come so far as to take the port.
        raise UserError(f"flywheel serve: another one serves at port {port}. Name another with --port.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"flywheel serve: port {port} is taken ({error.strerror}). Name another with --port."
            ) from error
    # Requests say what their frames are of (times, fps): without that vLLM takes them for one a second.
    # The name is the content's: a server that comes back with another model does not answer to it.
    settings = {
        "host": host,
        "port": port,
        "served-model-name": folder_digest(model),
        "trust-request-mm-kwargs": True,
        "structured-outputs-config": json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
        "enable-lora": True,
        "max-loras": 2,
        "max-lora-rank": max_lora_rank,
        "limit-mm-per-prompt": json.dumps(media_limits(inputs)),
        **{name.replace("_", "-"): value for name, value in (options or {}).items()},
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    for name, value in settings.items():
        flag = "--" + name
        written = json.dumps(value) if isinstance(value, dict | list) else str(value)
        command += [flag] if value is True else [] if value is False or value is None else [flag, written]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
            env={**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
        )
    server = LocalServer(f"http://{host}:{port}", process, note, log)
    note.write_text(json.dumps({"url": server.url, **_noted(process.pid), "starter": _noted(os.getpid())}))
    gives_up = time.monotonic() + wait_s
    while time.monotonic() < gives_up:
        if process.poll() is not None:
            server.stop()
            cause = _cause(log)
            raise BorderError(
                f"vllm serve ended with {process.returncode}: {cause}.{advice(cause)} {log} has all of it."
            )
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/health", timeout=2.0).status_code == 200:
                return server
        time.sleep(0.3)
    server.stop()
    raise BorderError(f"vllm serve does not answer after {wait_s:.0f} s ({log} says more).")


def reap(note: Path) -> bool:
    """End the server that a note speaks of, where it still runs and its starter does not; whether there was one."""
    try:
        noted = json.loads(note.read_text())
        server, starter = _lives(noted), _lives(noted.get("starter", {}))
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        note.unlink(missing_ok=True)
        return False
    if starter:
        return False
    if server:
        end_group(int(noted["pid"]))
    note.unlink(missing_ok=True)
    return server


def end_group(leader: int) -> None:
    """Ask a process group to end, then kill what is left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)
        gives_up = time.monotonic() + _GRACE_S
        while time.monotonic() < gives_up:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(leader, os.WNOHANG)
            os.killpg(leader, 0)
            time.sleep(0.05)
        os.killpg(leader, signal.SIGKILL)


def _end_with_parent() -> None:
    # A killed parent can't clean up; the kernel can.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _noted(pid: int) -> dict[str, Any]:
    """The start time of a process: it tells it from another that has its number later."""
    return {"pid": pid, "began": _began(pid)}


def _lives(noted: dict[str, Any]) -> bool:
    """Returns whether the process of :func:`_noted` still runs."""
    return noted.get("began") is not None and _began(int(noted["pid"])) == noted["began"]


def _began(pid: int) -> str | None:
    """When a process began, in clock ticks: with its number, what no other process has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _cause(log: Path) -> str:
    text = log.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return root_cause(text) or (lines or ["no output"])[-1].strip()[:300]

"""The compose file's services as processes of this machine: its commands, checks and variables, without containers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.playground import write_playground
from flywheel.status import status_of
from flywheel.store import Workspace
from tests.house.test_deploy import DEPLOY, ROOT, composed

pytestmark = pytest.mark.slow

Database = Callable[[], str]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Composed:
    """The services with this machine's folders, ports and database in place of the containers'."""

    def __init__(self, folder: Path, database: str) -> None:
        self._services: Mapping[str, Any] = composed()["services"]
        (folder / "bin").mkdir()
        for name, line in {"flywheel": "-m flywheel.cli", "mlflow": "-m mlflow"}.items():
            (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {line} "$@"\n')
            (folder / "bin" / name).chmod(0o755)
        shutil.copy(DEPLOY / "setup.sh", folder / "bin" / "flywheel-setup")
        (folder / "bin" / "flywheel-setup").chmod(0o755)
        self.page, self.tracker = free_port(), free_port()
        (folder / "data").mkdir()
        self._here = {"/data": str(folder / "data"), "8470": str(self.page), "5000": str(self.tracker)}
        self._here |= {"http://tracker": "http://127.0.0.1", "postgresql://flywheel@database/flywheel": database}
        self._environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        self._log = folder / "log"

    def put(self, text: str) -> str:
        """A word of the compose file, as it is here; variables have their defaults."""
        for there, here in self._here.items():
            text = text.replace(there, here)
        return text.partition(":-")[2].rstrip("}") if text.startswith("${") else text

    def command(self, name: str, *words: str) -> tuple[list[str], dict[str, str]]:
        """What a service runs, and in which environment."""
        service = self._services[name]
        environment = {key: self.put(str(value)) for key, value in service["environment"].items()}
        said = words or tuple(service["command"])
        return [*service.get("entrypoint", ["flywheel"]), *map(self.put, said)], {**self._environment, **environment}

    def run(self, name: str, *words: str) -> str:
        command, environment = self.command(name, *words)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def up(self, name: str) -> Iterator[None]:
        """The service, healthy by its own check; ended as `docker stop` ends it, within its time."""
        command, environment = self.command(name)
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            if "healthcheck" in self._services[name]:
                self._wait_for(name, process)
            yield
            assert process.poll() is None, self._log.read_text()
            process.terminate()
            assert process.wait(30) in (0, -15), self._log.read_text()
        finally:
            # Its own processes too, where it did not end.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait_for(self, name: str, process: subprocess.Popen[bytes]) -> None:
        kind, _, *check = self._services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        end = time.monotonic() + 240
        while subprocess.run(
            [sys.executable, *map(self.put, check)], stderr=subprocess.DEVNULL, check=False
        ).returncode:
            assert process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(1)


def test_the_services_work_together(tmp_path: Path, postgresql: Database) -> None:
    """Setup, tracker, page and schedule over one PostgreSQL; commands by hand go into the same workspace."""
    services = Composed(tmp_path, postgresql())
    services.run("setup")
    with services.up("tracker"), services.up("review"), services.up("scheduler"):
        write_playground(tmp_path / "made", seed=5, num_clips=1, noise_rate=0.0)
        here = ("--config", "/data/corpus")
        services.run("flywheel", "ingest", str(tmp_path / "made" / "corpus"), *here)
        link = services.run("flywheel", "invite", "--name", "Ann", *here).split()[0]
        page = httpx.get(services.put(link), follow_redirects=True)
        assert (page.status_code, "<h1>Review</h1>" in page.text) == (200, True)
        found = status_of(Workspace.open(tmp_path / "data" / "corpus")).to_json()
        assert sum(found["clips"].values()) == 1
        assert found["schedule"]["next"], "the scheduler has put its next time on record"
        # Other containers call it by its name; who comes by another name is refused.
        port = services.tracker
        for host, answer in ((f"tracker:{port}", 200), (f"elsewhere:{port}", 403)):
            address = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search?max_results=1"
            said = httpx.get(address, headers={"Host": host})
            assert said.status_code == answer, host
    assert not list((tmp_path / "data" / "corpus").glob("flywheel.db*")), "the database is PostgreSQL's"
    assert (tmp_path / "data" / "mlflow.db").exists()

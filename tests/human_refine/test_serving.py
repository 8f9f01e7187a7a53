"""The review page as it is served: its address, and many people at once."""

from __future__ import annotations

import socket
import threading

import pytest
import uvicorn
from typer.testing import CliRunner

from flywheel.cli import app as cli
from flywheel.store import Workspace
from tests.human_refine.test_page import Refiner, annotated, app, workspace  # noqa: F401


def test_many_at_once_get_each_text_once(app: object, workspace: Workspace) -> None:  # noqa: F811
    people = [Refiner(app, workspace, f"p{i}") for i in range(6)]
    seen: list[str] = []
    lock = threading.Lock()

    def work(person: Refiner) -> None:
        while (item := person.next()) is not None:
            with lock:
                seen.append(item["annotation_id"])
            assert person.say(item, "accept").status_code == 200

    threads = [threading.Thread(target=work, args=(p,)) for p in people]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert (
        len(seen)
        == len(set(seen))
        == workspace.annotations(round=1, kind="caption").height
        == workspace.corrections().height
    )


def test_the_address_it_prints_can_be_reached_at_once(
    workspace: Workspace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy or a script that reads the line comes before the server's first turn: it must wait there, not be
    refused."""

    def nobody_serves_yet(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        with socket.create_connection(sockets[0].getsockname(), timeout=5):
            reached.append(sockets[0].getsockname()[1])

    reached: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", nobody_serves_yet)
    said = CliRunner().invoke(cli, ["review", "--config", str(workspace.root), "--port", "0"])
    assert (said.exit_code, len(reached)) == (0, 1), said.output
    assert said.output.startswith(f"http://127.0.0.1:{reached[0]} ")

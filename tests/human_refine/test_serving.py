"""The review page as it is served: its address, and many people at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from typer.testing import CliRunner

from flywheel.cli import app as cli
from flywheel.store import Workspace
from human_refine import limits, serve
from human_refine.serve import bound, server_of
from tests.human_refine.page_bed import Refiner


@pytest.mark.slow
def test_many_at_once_get_each_text_once(app: object, workspace: Workspace) -> None:
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
    workspace: Workspace,
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


@contextmanager
def served(workspace: Workspace, proxy: str = "") -> Iterator[tuple[str, int]]:
    """The address of a page that is served meanwhile."""
    with bound("127.0.0.1", 0) as listener:
        server = server_of(workspace, proxy)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)


def _ends(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    connection.settimeout(15)
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(4096):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.slow
def test_half_a_request_is_not_waited_for(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "HEADERS_S", 1.0)
    monkeypatch.setattr(limits, "_BODY_S", 1.0)
    monkeypatch.setattr(limits, "_SLOWEST_BYTES_S", 1e12)
    with served(workspace) as address:
        silent, half, later, body, whole = (socket.create_connection(address, timeout=15) for _ in range(5))
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A")
        complete = b"GET /static/review.css HTTP/1.1\r\nHost: x\r\n\r\n"
        later.sendall(complete + b"GET / HTTP/1.1\r\nHo")
        body.sendall(b"POST /api/next HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        whole.sendall(complete.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b" 200 OK" in _ends(whole), "others are answered beside them"
        assert _ends(silent) == b""
        assert _ends(half) == b""
        assert _ends(later).startswith(b"HTTP/1.1 200 OK")
        body.settimeout(15)
        assert body.recv(4096).startswith(b"HTTP/1.1 408"), "nor is half a body"
        for connection in (silent, half, later, body, whole):
            connection.close()


@pytest.mark.slow
def test_only_a_named_proxy_says_who_asks(workspace: Workspace) -> None:
    """Else whoever asks could be somebody else each time, and try tokens without end."""
    answers: dict[str, list[int]] = {}
    for proxy in ("", "127.0.0.1"):
        with served(workspace, proxy) as (host, port):
            statuses = []
            for number in range(12):
                request = urllib.request.Request(
                    f"http://{host}:{port}/api/progress",
                    headers={"Authorization": f"Bearer {number}", "X-Forwarded-For": f"10.0.0.{number}"},
                )
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request)
                statuses.append(refused.value.code)
            answers[proxy] = statuses
    assert answers == {"": [401] * 10 + [429] * 2, "127.0.0.1": [401] * 12}


@pytest.mark.slow
@pytest.mark.parametrize(("host", "is_said"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_plain_http_for_others_is_said(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    is_said: bool,
) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    arguments = ["review", "--config", str(workspace.root), "--port", "0", "--host", host]
    assert ("plain http" in CliRunner().invoke(cli, arguments).stderr) is is_said
    assert "plain http" not in CliRunner().invoke(cli, [*arguments, "--proxy", "127.0.0.1"]).stderr

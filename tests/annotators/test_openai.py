"""The pool against servers that misbehave (real HTTP on loopback; what they write is made up),
and a local server's end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from annotators import Request, Sampling, build, serving
from annotators.engines import openai
from flywheel.core.errors import BorderError, UserError
from tests.annotators.test_annotate import requests

SAMPLING = Sampling(max_new_tokens=8)


class Server:
    """Answers like vLLM, as slowly and as badly as it is told to:
    ``behave(number of the call, body)`` may return a status."""

    def __init__(self, root: Path) -> None:
        self.calls, self.bodies, self.root = Counter[str](), list[dict[str, Any]](), root
        self.behave = lambda number, body: 200
        self.at_work = self.most_at_work = 0
        self.delay_s, self.dead = 0.0, False
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def say(self, status: int, body: Any) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.say(200, {"data": [{"id": "base", "root": str(outer.root), "parent": None}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.calls[self.path] += 1
                    outer.bodies.append(body)
                    number = outer.calls[self.path]
                    outer.at_work += 1
                    outer.most_at_work = max(outer.most_at_work, outer.at_work)
                time.sleep(outer.delay_s)
                status = -1 if outer.dead else outer.behave(number, body)
                with lock:
                    outer.at_work -= 1
                if status == -1:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif status == 200:
                    text = body["messages"][0]["content"][1]["text"][:20]
                    choice = {
                        "message": {"content": f"seen: {text}"},
                        "finish_reason": "stop",
                        "token_ids": [1, 2],
                        "logprobs": {"content": [{"logprob": -0.1}, {"logprob": -0.2}]},
                    }
                    self.say(200, {"choices": [choice], "usage": {"prompt_tokens": 7}})
                elif status == 299:
                    self.say(200, b"<html>")
                else:
                    self.say(status, {"error": {"message": f"status {status}"}})

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A client's open connection shall not hold up a server's end.
        self.http.block_on_close = False
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        # Connections that are open stay with their threads: these are told too.
        self.dead = True
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    servers = Server(tmp_path), Server(tmp_path)
    yield servers
    for server in servers:
        server.end()


def pool(tmp_path: Path, *servers: Server, **arguments: Any) -> Any:
    settings = {"concurrency": 4, "timeout_s": 5.0, "patience_s": 1.5, **arguments}
    return build("openai", model=tmp_path, adapter=None, servers=[s.url for s in servers], **settings)


def test_every_request_once_and_shared_by_load(pair: tuple[Server, Server], tmp_path: Path) -> None:
    slow, quick = pair
    slow.delay_s, quick.delay_s = 0.1, 0.01
    results = list(pool(tmp_path, *pair).generate(requests(40), SAMPLING))
    assert Counter(r.key for r in results) == Counter(str(i) for i in range(40))
    assert {r.finish for r in results} == {"stop"}
    assert quick.calls["/v1/chat/completions"] > slow.calls["/v1/chat/completions"] > 0
    assert max(slow.most_at_work, quick.most_at_work) <= 4
    body = quick.bodies[-1]
    assert body["media_io_kwargs"]["video"]["frames_indices"] == [2, 6, 10, 14, 18, 22, 26, 30]
    assert body["messages"][0]["content"][0]["video_url"]["url"].count(",") == 8


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 299, -1, 429])
def test_a_server_that_fails_now_and_then_costs_nothing(
    pair: tuple[Server, Server], tmp_path: Path, status: int
) -> None:
    pair[0].behave = lambda number, body: status if number % 3 == 1 else 200
    results = list(pool(tmp_path, *pair, patience_s=20.0).generate(requests(20), SAMPLING))
    assert Counter(r.key for r in results) == Counter(str(i) for i in range(20))
    assert {r.finish for r in results} == {"stop"}


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle(pair: tuple[Server, Server], tmp_path: Path) -> None:
    pair[0].delay_s = pair[1].delay_s = 0.02
    stream = pool(tmp_path, *pair, patience_s=20.0).generate(requests(40), SAMPLING)
    results = [next(stream) for _ in range(5)]
    pair[0].end()
    results += list(stream)
    assert Counter(r.key for r in results) == Counter(str(i) for i in range(40))
    assert {r.finish for r in results} == {"stop"}


def test_a_server_that_hangs_is_left_for_the_other(pair: tuple[Server, Server], tmp_path: Path) -> None:
    def hang(number: int, body: Any) -> int:
        time.sleep(3)
        return 200

    pair[0].behave = hang
    results = list(pool(tmp_path, *pair, timeout_s=0.4, concurrency=2).generate(requests(8), SAMPLING))
    assert {r.finish for r in results} == {"stop"}
    assert len(results) == 8


def test_what_is_the_requests_fault_is_its_row(pair: tuple[Server, Server], tmp_path: Path) -> None:
    """400 at once, 500 for ever: each its own row with a reason; the others go on."""

    def behave(number: int, body: Any) -> int:
        text = body["messages"][0]["content"][1]["text"]
        return 400 if "too long" in text else 500 if "poison" in text else 200

    for server in pair:
        server.behave = behave
    asked = requests(6)
    asked[1] = Request(key="long", clip=asked[1].clip, prompt="too long")
    asked[3] = Request(key="bad", clip=asked[3].clip, prompt="poison")
    results = {r.key: r for r in pool(tmp_path, *pair, patience_s=20.0).generate(asked, SAMPLING)}
    assert len(results) == 6
    assert results["long"].finish == "error"
    assert "does not take it: status 400" in results["long"].text
    assert results["bad"].text == "servers failed at it 4 times (500 status 500)"
    assert [results[k].finish for k in ("0", "2", "4", "5")] == ["stop"] * 4


@pytest.mark.slow
def test_no_server_left_stops_with_one_line(pair: tuple[Server, Server], tmp_path: Path) -> None:
    engine = pool(tmp_path, *pair)
    for server in pair:
        server.end()
    with pytest.raises(BorderError, match=r"no server answers for 2 s: http://127.*what is committed stands"):
        list(engine.generate(requests(3), SAMPLING))
    with pytest.raises(BorderError, match="no server answers: "):
        pool(tmp_path, *pair)


@pytest.mark.parametrize("count", [1, 3])
def test_one_request_alone_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Its server rests for less than the patience, and is tried each time that it has rested."""
    monkeypatch.setattr(openai, "_REST_S", 0.01)
    monkeypatch.setattr(openai, "_MOST_REST_S", 0.02)
    monkeypatch.setattr(openai.random, "uniform", lambda *_: 0.0)
    server = Server(tmp_path)
    engine = pool(tmp_path, server, patience_s=0.1, concurrency=1)
    server.end()
    began = time.monotonic()
    with pytest.raises(BorderError, match="no server answers for 0 s"):
        list(engine.generate(requests(1) * count, SAMPLING))
    assert 0.1 < time.monotonic() - began < 10


def test_a_server_that_came_back_with_another_model_is_left_out(pair: tuple[Server, Server], tmp_path: Path) -> None:
    pair[0].behave = lambda number, body: 404
    results = list(pool(tmp_path, *pair).generate(requests(12), SAMPLING))
    assert {r.finish for r in results} == {"stop"}
    assert pair[0].calls["/v1/chat/completions"] <= 4
    assert pair[1].calls["/v1/chat/completions"] == 12


def test_wrong_model_or_no_server_is_the_users(pair: tuple[Server, Server], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"serves .*, not "):
        pool(tmp_path / "other", *pair)
    with pytest.raises(UserError, match=r"models\.main\.servers names none"):
        pool(tmp_path)


def test_a_noted_server_is_ended_and_another_process_with_its_number_is_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    note = tmp_path / "serve.json"
    note.write_text(json.dumps({"pid": child.pid, "began": "1"}))
    assert not serving.reap(note)
    assert child.poll() is None
    note.write_text(json.dumps({"pid": child.pid, "began": serving._began(child.pid)}))
    assert serving.reap(note)
    child.wait(5)
    assert not _alive(child.pid)
    assert not note.exists()
    for damaged in ("{", "[]", '{"pid": "x", "began": "1"}'):
        note.write_text(damaged)
        assert not serving.reap(note)
        assert not note.exists()


def test_a_server_whose_starter_lives_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once in a workspace, on one machine and on two: each ends its own, and what killed ones left there."""
    monkeypatch.setattr(serving.socket, "gethostname", lambda: "a/1")
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = subprocess.Popen(sleeps, start_new_session=True)
    noted, gone = serving._noted(child.pid), {"pid": os.getpid(), "began": "1"}
    port = serving._free_port("127.0.0.1")
    lives, left, elsewhere = (tmp_path / f"serve-{name}.json" for name in (f"a_1-{port}", "a_1-2", "b-2"))
    lives.write_text(json.dumps({**noted, "starter": serving._noted(os.getpid())}))
    elsewhere.write_text(json.dumps({**noted, "starter": gone}))
    try:
        with pytest.raises(UserError, match=f"another one serves at port {port}"):
            serving.start(tmp_path, tmp_path, port=port)
        assert (child.poll(), lives.exists(), elsewhere.exists()) == (None, True, True)
        lives.unlink()
        left.write_text(json.dumps({**noted, "starter": gone}))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            with pytest.raises(UserError, match="is taken"):
                serving.start(tmp_path, tmp_path, port=port)
        child.wait(5)
        assert not left.exists(), "its starter was gone"
    finally:
        child.kill()


@pytest.mark.slow
def test_a_server_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time; from annotators import serving;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True,"
        " preexec_fn=serving._end_with_parent); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gives_up = time.monotonic() + 10
    while _alive(child) and time.monotonic() < gives_up:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_frames_travel_without_loss_near_and_far() -> None:
    """To servers on this machine as BMP, to others as PNG: the same pixels, a fraction of the bytes."""
    import base64
    import io

    import numpy as np
    from PIL import Image

    from annotators.engines.openai import _encoded

    picture = requests(1)[0].clip
    sizes = []
    for packed in (False, True):
        url, kwargs = _encoded(picture, picture.frames_THWC, packed=packed)
        parts = url.removeprefix("data:video/jpeg;base64,").split(",")
        frames = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in parts])
        np.testing.assert_array_equal(frames, picture.frames_THWC)
        assert kwargs["num_frames"] == len(parts)
        sizes.append(len(url))
    assert sizes[1] < 0.6 * sizes[0]

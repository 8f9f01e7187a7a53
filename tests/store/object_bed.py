"""An object store of this machine that speaks S3, and the faults that are put before it."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

KEY, SECRET = "AKIAOFTHETEST0000000", "a-secret-that-must-be-nowhere"
#: What a fault may be: an answer's status, or `slow`, or `cut` (half of an answer's body comes).
Fault = int | str


class Faulty:
    """A WSGI application before another one: a share of the requests to objects meets a fault."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._rng = app, random.Random(5)
        self._lock = threading.Lock()
        self.share, self.faults = 0.0, list[Fault]()
        #: Fault -> how many requests met it.
        self.met: Counter[Fault] = Counter()

    def set(self, share: float, *faults: Fault) -> None:
        """Let this share of the requests meet one of these faults from now on."""
        self.share, self.faults = share, list(faults)
        self.met.clear()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            fault = self._rng.choice(self.faults) if self._rng.random() < self.share else None
            self.met[fault or 200] += 1
        if isinstance(fault, int):
            # The body first, or the client meets a closed connection instead of the answer.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = {403: "AccessDenied", 404: "NoSuchKey"}.get(fault, "SlowDown")
            start(f"{fault} Fault", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>of the test</Message></Error>".encode()]
        if fault == "slow":
            time.sleep(0.3)
        answer = self._app(environ, start)
        return _half(answer) if fault == "cut" and environ["REQUEST_METHOD"] == "GET" else answer


def _half(answer: Iterable[bytes]) -> Iterator[bytes]:
    body = b"".join(answer)
    yield body[: len(body) // 2]
    # The server closes the connection before the length that it said.
    raise ConnectionAbortedError("of the test")


@contextlib.contextmanager
def object_server(patch: pytest.MonkeyPatch, bucket: str = "corpus") -> Iterator[Faulty]:
    """Serve S3 with one bucket on loopback; the environment names it and its credentials."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    serving = pytest.importorskip("werkzeug.serving")
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    faulty = Faulty(server_module.DomainDispatcherApplication(server_module.create_backend_app))
    server = serving.make_server("127.0.0.1", 0, faulty, threaded=True)
    server.log = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    settings["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
    for name, value in settings.items():
        patch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket=bucket)
    # The server keeps its objects for as long as the process lives.
    boto3.resource("s3").Bucket(bucket).objects.delete()
    try:
        yield faulty
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

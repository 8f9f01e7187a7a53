"""Servers of this machine for the studies of this folder: one that speaks S3 (moto), with faults, and PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from experiments.faults.postgresql import server


class Faulty:
    """A WSGI application before another one: counts requests, and lets a share of those to objects meet a fault."""

    def __init__(self, app: Callable[..., Iterable[bytes]], share: float, faults: Sequence[str], seed: int) -> None:
        self._app, self._share, self._faults = app, share, faults
        self._rng, self._lock = random.Random(seed), threading.Lock()
        #: Fault, or the method of what met none -> requests.
        self.met: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            fault = self._rng.choice(self._faults) if self._rng.random() < self._share else ""
            if fault == "cut" and environ["REQUEST_METHOD"] != "GET":
                # Of other answers there is nothing to cut.
                fault = ""
            self.met[fault or environ["REQUEST_METHOD"]] += 1
        if fault == "503":
            # The body first, or the client meets a closed connection instead of the answer.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Fault", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>of the study</Message></Error>"]
        if fault == "slow":
            time.sleep(0.3)
        answer = self._app(environ, start)
        return _half(answer) if fault == "cut" else answer


def _half(answer: Iterable[bytes]) -> Iterator[bytes]:
    body = b"".join(answer)
    yield body[: len(body) // 2]
    # The server closes the connection before the length that it said.
    raise ConnectionAbortedError("of the study")


@contextlib.contextmanager
def object_store(bucket: str, *, share: float = 0.0, seed: int = 0) -> Iterator[Faulty]:
    """Serve S3 with one bucket on loopback, with faults for a share of the requests; the environment names it."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    faulty = Faulty(DomainDispatcherApplication(create_backend_app), 0.0, ("503", "slow", "cut"), seed)
    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    server.log = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    faulty._share = share
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """URL of an empty database of a PostgreSQL server of its own, which listens on no port."""
    with server() as running:
        yield running.new()

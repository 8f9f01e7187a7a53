"""A server on a socket that answers as it is told: status, headers and body of each call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Of the path, the headers and the body: status, headers and body (bytes as they are, else JSON).
Answers = Callable[[str, dict[str, str], Any], tuple[int, dict[str, str], Any]]


def reply(text: Any = "A dog runs.", **more: Any) -> dict[str, Any]:
    """An answer of ``/v1/chat/completions`` in vLLM's form."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "token_ids": [1, 2],
        "logprobs": {"content": [{"logprob": -0.2}, {"logprob": -0.2}]},
        **more,
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def models(root: Path) -> dict[str, Any]:
    """An answer of ``/v1/models``."""
    return {"data": [{"id": "base", "root": str(root), "parent": None}]}


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    """While this lasts, a server that answers so; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = answers(self.path, dict(self.headers), json.loads(raw) if raw else None)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

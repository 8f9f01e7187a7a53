"""A hub on this machine: what the hub's own library asks for to list and fetch the files of one model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_of(hub_id: str, folder: Path) -> Iterator[str]:
    """Serve a folder's files as the model of this id; yields the hub's address."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{hub_id}/tree/"):
                tree = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in files.items()]
                self._send(json.dumps(tree).encode(), {})
            elif path.startswith(f"/api/models/{hub_id}"):
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                self._send(json.dumps({"id": hub_id, "sha": COMMIT, "siblings": siblings}).encode(), {})
            elif path.startswith(f"/{hub_id}/resolve/") and (name := path.rpartition("/")[2]) in files:
                content = files[name]
                self._send(content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})
            else:
                self._send(b"{}", {"X-Error-Code": "RepoNotFound"}, status=404)

        def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

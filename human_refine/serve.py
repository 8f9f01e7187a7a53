"""The review page as a server: a socket that is bound before anybody is told of it, and the application behind it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.store import Workspace
from human_refine.server import create_app
from human_refine.sound_pairs import SoundPairs
from human_refine.state import ContentSearch

#: Seconds in which the headers of a request must have come.
HEADERS_S = 20.0


def serve(
    workspace: Workspace,
    host: str,
    port: int,
    announce: Callable[[str], object],
    *,
    proxy: str = "",
    standing: Callable[[], Sequence[str]] | None = None,
    home: Callable[[], Any] | None = None,
    sounds: SoundPairs | None = None,
    content: ContentSearch | None = None,
    command: str = "flywheel review",
) -> None:
    """Serves the review page until it is interrupted; ``announce`` is called with its URL once it can be reached.

    Port 0 takes a free one. ``proxy`` is the address of a proxy that is believed where it says who asks, and that it
    was asked by TLS; empty for none. ``standing``, ``home``, ``sounds`` and ``content`` are as in :func:`create_app`.
    Raises UserError, as ``command``, where the address is in use.
    """
    with bound(host, port, command) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        if not _is_local(host) and not proxy:
            say(f"review: {url} is plain http, which can be read on the way: put a proxy with TLS before it.")
        server = server_of(workspace, proxy, standing, home, sounds, content)
        announce(url)
        server.run(sockets=[listener])


def server_of(
    workspace: Workspace,
    proxy: str = "",
    standing: Callable[[], Sequence[str]] | None = None,
    home: Callable[[], Any] | None = None,
    sounds: SoundPairs | None = None,
    content: ContentSearch | None = None,
) -> uvicorn.Server:
    """The page's server, which a socket is still to be given to; the other arguments as in :func:`serve`."""
    config = uvicorn.Config(
        create_app(workspace, standing, home, sounds, content),
        http=Patient,
        log_level="warning",
        server_header=False,
        # Anybody could say so.
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy or None,
    )
    return uvicorn.Server(config)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP with an end to patience: a connection whose request does not come whole within some seconds is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Waits from now on."""
        super().connection_made(transport)
        self._waiting: asyncio.TimerHandle | None = None
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Goes on waiting where these bytes began a request, and did not end its headers."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def bound(host: str, port: int, command: str = "flywheel review") -> socket.socket:
    """A socket that listens there. Raises UserError, as ``command``, where the address is in use."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # What it accepts inherits this. Without it each answer's second part waits for the browser's delayed
    # acknowledgement of the first, 40 ms; asyncio does not set it on a socket that it did not make.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        # Whoever is told the address may come at once: from here on they wait until the page is up.
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"{command}: {host}:{port} can't be used ({error.strerror}). Name another with --port."
        ) from error
    return listener

"""The review page as a server: a socket that is bound before anybody is told of it, and the application behind it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from flywheel.core.errors import UserError
from flywheel.store import Workspace
from human_refine.server import create_app


def serve(workspace: Workspace, host: str, port: int, announce: Callable[[str], object]) -> None:
    """Serves the review page until it is interrupted; ``announce`` is called with its URL once it can be reached.

    Port 0 takes a free one. Raises UserError where the address can't be had.
    """
    with bound(host, port) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(create_app(workspace), log_level="warning", server_header=False))
        announce(url)
        server.run(sockets=[listener])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UserError where the address can't be had."""
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
            f"flywheel review: {host}:{port} can't be had ({error.strerror}). Name another with --port."
        ) from error
    return listener

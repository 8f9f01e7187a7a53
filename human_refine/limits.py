"""What every request and answer of the page obeys: a largest body, and the headers that keep foreign content out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

_MOST_BODY = 1 << 20
#: A body may take so long, and longer by what the slowest connection needs for the largest.
_BODY_S, _SLOWEST_BYTES_S = 30.0, 16_384
_HEADERS = {
    # Nothing from elsewhere, nothing inline: a text that became markup could still do nothing.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The invite link holds a token.
    "Referrer-Policy": "no-referrer",
}


class Limits:
    """ASGI middleware: refuses bodies that are too large while they come in, and puts the headers on every answer."""

    def __init__(self, app: Any, most_upload: int) -> None:
        self._app, self._most_upload = app, most_upload

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._most_upload if scope["path"] == "/api/corrections/import" else _MOST_BODY
        taken = 0
        answered = read = False
        until = time.monotonic() + _BODY_S + most / _SLOWEST_BYTES_S

        async def limited() -> Any:
            nonlocal taken, read
            if read:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "this took too long to come in") from None
            read = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > most:
                raise _TooLarge
            return message

        async def with_headers(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                names = {name.lower() for name, _ in message["headers"]}
                more = [
                    (k.lower().encode(), v.encode()) for k, v in _HEADERS.items() if k.lower().encode() not in names
                ]
                if scope["path"].startswith("/api/"):
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        length = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if not length.isdigit() or int(length) > most:
                raise _TooLarge
            await self._app(scope, limited, with_headers)
        except _TooLarge:
            if answered:
                raise
            refuse = JSONResponse({"detail": f"too large: at most {most / 2**20:g} MiB are taken here"}, 413)
            await refuse(scope, receive, with_headers)


class _TooLarge(Exception):
    pass

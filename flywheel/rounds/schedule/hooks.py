"""Tells a command or a URL of a schedule's events."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

from flywheel.core.progress import say

Notify = Callable[[str, dict[str, Any]], None]


def hook(target: str) -> Notify:
    """A function of an event and its values that tells ``target``; it does nothing where the target is "".

    A URL gets the values as JSON by POST, a command on its standard input, with $FLYWHEEL_EVENT beside it.
    A hook that fails is logged and stops nothing.
    """

    def notify(event: str, values: dict[str, Any]) -> None:
        if not target:
            return
        try:
            if target.startswith(("http://", "https://")):
                _post(target, json.dumps(values))
            else:
                _run(target, event, json.dumps(values))
        except Exception as error:
            # Sockets, TLS, processes, HTTP: whatever a hook does wrong, rounds go on.
            say(f"schedule.hook: {event} was not told ({type(error).__name__}: {error})")

    return notify


def _post(url: str, body: str) -> None:
    import httpx

    headers = {"Content-Type": "application/json"}
    httpx.post(url, content=body, headers=headers, timeout=10.0).raise_for_status()


def _run(command: str, event: str, body: str) -> None:
    environment = {**os.environ, "FLYWHEEL_EVENT": event}
    subprocess.run(command, shell=True, input=body.encode(), env=environment, timeout=60, check=True)

"""MLflow's own pages on a workspace's tracking store."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.store.tracking import Tracker
from flywheel.store.workspace import Workspace


def open_dashboard(workspace: Workspace, host: str, port: int) -> list[str]:
    """Return the addresses of the rounds' figures and of their texts side by side, where a tracking server has them.

    Of the workspace's own database this process becomes MLflow's server on ``host`` and ``port``, and does not return.
    Raises UserError where no round was tracked yet, and where the address can't be had.
    """
    tracker = Tracker(workspace)
    if left := tracker.send_spooled():
        say(f"dashboard: {left} figures still wait for the tracker to answer")
    uri = tracker.tracking_uri()
    if uri.startswith("http"):
        return _pages(tracker, uri.rstrip("/"))
    if (workspace.root / "mlflow.db").exists():
        _serve(workspace, tracker, host, port)
    raise UserError(f"dashboard: {workspace.root} has no tracked round yet. Run 'flywheel round' first.")


def tracking_pages(workspace: Workspace) -> list[str]:
    """The addresses that :func:`open_dashboard` returns; none where MLflow has the workspace's own database."""
    tracker = Tracker(workspace)
    uri = tracker.tracking_uri()
    return _pages(tracker, uri.rstrip("/")) if uri.startswith("http") else []


def _check_free(host: str, port: int) -> None:
    """Raise UserError where the address can't be had: MLflow's server would end with exit 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            raise UserError(
                f"flywheel dashboard: {host}:{port} is not free ({error.strerror or error}). Name another with --port."
            ) from error


def _serve(workspace: Workspace, tracker: Tracker, host: str, port: int) -> NoReturn:
    _check_free(host, port)
    pages = _pages(tracker, f"http://{host}:{port}")
    for what, page in zip(("The rounds compared", "Their texts side by side"), pages):
        say(f"{what}: {page}")
    artifacts = (workspace.root / "mlartifacts").as_uri()
    places = [
        "--backend-store-uri",
        tracker.tracking_uri(),
        "--default-artifact-root",
        artifacts,
        "--host",
        host,
        "--port",
        str(port),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "server", "--workers", "1", *places], environment)


def _pages(tracker: Tracker, server: str) -> list[str]:
    """Return the address of the rounds' figures and, where there is something to compare, of their texts."""
    figures, texts = tracker.comparison(), tracker.comparison("ARTIFACT")
    return [f"{server}/{figures}", *([f"{server}/{texts}"] if figures else [])]

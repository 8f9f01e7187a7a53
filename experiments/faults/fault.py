"""One fault: what is done, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """``attempt`` does it, and returns what went wrong; empty where all is as it should be."""

    group: str
    name: str
    attempt: Callable[[], str]

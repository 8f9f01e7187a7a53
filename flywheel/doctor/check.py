"""One thing that was looked at: ok, to be warned of, or failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.core.errors import FlywheelError


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at; the command fails where it is needed and not ok."""

    what: str
    ok: bool
    needed: bool
    says: str

    @property
    def state(self) -> str:
        """``ok``; ``warn`` where rounds go on without it; ``fail`` where they do not."""
        return "ok" if self.ok else "fail" if self.needed else "warn"

    def to_json(self) -> dict[str, Any]:
        """``{"what", "ok", "needed", "says", "state"}``."""
        return {**asdict(self), "state": self.state}

    def __str__(self) -> str:
        return f"{self.state:4} {self.what}: {self.says}"


def tried(what: str, work: Callable[[], str]) -> Check:
    """A needed check: ok with what ``work`` returns, failed with what it raises."""
    try:
        return Check(what=what, ok=True, needed=True, says=work())
    except FlywheelError as error:
        return Check(what=what, ok=False, needed=True, says=str(error))

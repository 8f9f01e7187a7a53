"""What is right for each case: functions under the case's name, in one file for each kind of input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

#: By the name of the case's folder: a function of that folder (a copy, with ``input/``), of an empty folder to work in,
#: and of the test's request (``request.getfixturevalue("commandline")`` and the like).
Check = Callable[[Path, Path, pytest.FixtureRequest], None]

CHECKS: dict[str, Check] = {}


def case(name: str) -> Callable[[Check], Check]:
    """Enters a check under a case's name."""

    def enter(check: Check) -> Check:
        if name in CHECKS:
            raise ValueError(f"two checks of case {name}")
        CHECKS[name] = check
        return check

    return enter

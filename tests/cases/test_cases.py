"""Small inputs that people met, read where they lie: ``FLYWHEEL_TEST_CASES`` names their folder.

Each case is a folder; what is right for it stands in a function of a file in ``tests/cases/checks``, one file for each
kind of input. A case without such a function fails.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
from pathlib import Path

import pytest

from tests.cases import checks
from tests.cases.checks import CHECKS

for _module in pkgutil.iter_modules(checks.__path__):
    importlib.import_module(f"tests.cases.checks.{_module.name}")

FOLDER = Path(os.environ.get("FLYWHEEL_TEST_CASES") or "absent")
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/README.md"))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NAMES, reason="FLYWHEEL_TEST_CASES names no folder of cases")]


@pytest.mark.parametrize("name", NAMES or ["absent"])
def test_the_case_gives_its_right_result(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert name in CHECKS, f"no check is written for case {name}"
    folder = tmp_path / "case"
    # A copy: cases are run beside their input, links are made there, and the place itself may be read-only.
    shutil.copytree(FOLDER / name, folder, symlinks=True)
    folder.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    CHECKS[name](folder, tmp_path, request)

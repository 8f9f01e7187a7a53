"""What the tests share. Nothing here stands in for a thing that a test is about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from flywheel.core.config import template
from flywheel.playground import write_playground
from flywheel.store import Workspace


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small playground: folder with ``corpus/`` and ``oracle.parquet``."""
    folder = tmp_path_factory.mktemp("playground")
    write_playground(folder, seed=5, num_clips=20, noise_rate=0.5)
    return folder


@pytest.fixture
def make_workspace(tmp_path: Path) -> Iterator[Callable[..., Workspace]]:
    """Makes workspaces under the test's folder; overrides as on the command line."""
    opened: list[Workspace] = []

    def make(*overrides: str, name: str = "w") -> Workspace:
        folder = tmp_path / name
        if not (folder / "flywheel.yaml").exists():
            Workspace.create(folder, template())
        workspace = Workspace.open(folder, ["tracking.enabled=false", *overrides])
        opened.append(workspace)
        return workspace

    yield make
    for workspace in opened:
        workspace.database.close()


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Real videos; the tests that want them are skipped where there are none."""
    folder = os.environ.get("FLYWHEEL_TEST_CLIPS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FLYWHEEL_TEST_CLIPS names no folder")
    return Path(folder)

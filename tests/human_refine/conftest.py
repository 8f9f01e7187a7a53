"""A workspace whose first round has texts, its page, and people before it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.config import template
from flywheel.ingest import ingest
from flywheel.playground import write_playground
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from human_refine.server import create_app
from tests.human_refine.browser_bed import CHROMIUM, FLAGS, SETTINGS, Served
from tests.human_refine.page_bed import Make, Refiner


@pytest.fixture(scope="session")
def annotated(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A workspace whose first round has texts; each test works on a copy."""
    folder = tmp_path_factory.mktemp("annotated") / "w"
    Workspace.create(folder, template())
    w = Workspace.open(folder, ["tracking.enabled=false", "annotate.engine=fake"])
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
        context = RoundContext(w)
        context.ask(context.split("train", "anchor"), by=0, round=1)
    w.database.close()
    return folder


@pytest.fixture
def workspace(annotated: Path, tmp_path: Path, make_workspace: Make) -> Workspace:
    shutil.copytree(annotated, tmp_path / "w", ignore=shutil.ignore_patterns("cache"))
    return make_workspace("review.max_chars=200", "review.upload_mib=1", "review.overlap_share=0")


@pytest.fixture
def app(workspace: Workspace) -> object:
    return create_app(workspace)


@pytest.fixture
def ann(app: object, workspace: Workspace) -> Refiner:
    return Refiner(app, workspace, "ann")


@pytest.fixture
def bob(app: object, workspace: Workspace) -> Refiner:
    return Refiner(app, workspace, "bob")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """Chromium; pages that stay open would go on playing their videos beside the next test."""
    yield chromium
    for context in chromium.contexts:
        context.close()


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 24 clips with texts, to be copied."""
    folder = tmp_path_factory.mktemp("ready")
    write_playground(folder, seed=8, num_clips=24, noise_rate=0.5)
    Workspace.create(folder / "w", template())
    workspace = Workspace.open(folder / "w", SETTINGS)
    with workspace.lock():
        ingest(workspace, [str(folder / "corpus")])
        context = RoundContext(workspace)
        context.ask(context.split("train", "anchor"), by=0, round=1)
    workspace.database.close()
    return folder / "w"


@pytest.fixture
def served(tmp_path: Path, ready: Path) -> Iterator[Served]:
    shutil.copytree(ready, tmp_path / "w")
    found = Served(tmp_path / "w")
    yield found
    found.stop()
    found.workspace.database.close()

"""A workspace whose first round has texts, its page, and people before it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flywheel.core.config import template
from flywheel.ingest import ingest
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from human_refine.server import create_app
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

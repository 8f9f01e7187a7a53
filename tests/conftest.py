"""What the tests share. Nothing here stands in for a thing that a test is about."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import jaxtyping
import pytest
import sqlalchemy as sql
import type_checks

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# Before the packages are imported: their functions then check, whenever a test calls them, that arrays have the shapes
# and arguments the types that they say. FLYWHEEL_TEST_TYPES=0 leaves it out.
if os.environ.get("FLYWHEEL_TEST_TYPES", "1") != "0":
    type_checks.install("noise_control", "trainers", "flywheel.metrics", "flywheel.models")

from flywheel.core.config import template
from flywheel.playground import write_playground
from flywheel.store import Workspace
from tests.plugins import commandline, ingested, plugin, six_clips  # noqa: F401  (fixtures)

#: Made once for all: it takes nearly half as long as the rest of a new workspace.
_whole_template = cache(template)
ON_POSTGRESQL = os.environ.get("FLYWHEEL_TEST_DATABASE") == "postgresql"


def pytest_collection() -> None:
    """Imports without the collector: what is imported stays, and looking through it takes a sixth of their time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on the collector looks at what the tests make, and at nothing else."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)  # after those that are not wanted have gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the files: those of long tests first, then those of many, so that no core waits for the other's last file.

    How long a test may take stands in its mark; pytest-xdist hands out the files in this order.
    """
    tests: Counter[Path] = Counter(item.path for item in items)
    limits: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0.0), float(mark.args[0]) if mark else 0.0)
    items.sort(key=lambda item: (-limits[item.path], -tests[item.path], item.path))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the checks of shapes and types out: of simulations, which call the same few functions thousands of times.

    And of tests of our own errors for wrong shapes, which users meet without the checks.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small playground: folder with ``corpus/`` and ``oracle.parquet``."""
    folder = tmp_path_factory.mktemp("playground")
    write_playground(folder, seed=5, num_clips=20, noise_rate=0.5)
    return folder


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Gives URLs of new, empty databases of a PostgreSQL server of its own, which listens on no port."""
    found = shutil.which("initdb") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    tools = Path(found).resolve().parent
    folder = (
        Path("/tmp") / f"flywheel-pg-{uuid.uuid4().hex[:8]}"
    )  # A socket's path may have about a hundred characters.
    folder.mkdir()
    as_user: list[str] = []
    if os.geteuid() == 0:
        # PostgreSQL does not run as root.
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(*command: str) -> None:
        subprocess.run(
            [*as_user, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )

    # As servers are often set up: not by bytes, which is where orders differ.
    locale = ("--locale-provider=icu", "--icu-locale=en", "--encoding=UTF8")
    run(str(tools / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "--no-sync", *locale)
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    run(str(tools / "pg_ctl"), "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")

    def new() -> str:
        name = f"flywheel_{uuid.uuid4().hex[:12]}"
        admin = sql.create_engine(
            f"postgresql+psycopg://postgres@/postgres?host={folder}", isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            connection.execute(sql.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return f"postgresql://postgres@/{name}?host={folder}"

    try:
        yield new
    finally:
        run(str(tools / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def make_workspace(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Workspace]]:
    """Makes workspaces under the test's folder; overrides as on the command line.

    With FLYWHEEL_TEST_DATABASE=postgresql their database is one of PostgreSQL's, also of those that were copied from
    elsewhere.
    """
    opened: list[Workspace] = []
    new_url = request.getfixturevalue("postgresql") if ON_POSTGRESQL else None

    def make(*overrides: str, name: str = "w") -> Workspace:
        folder = tmp_path / name
        if not (folder / "flywheel.yaml").exists():
            Workspace.create(folder, _whole_template())
        file = folder / "flywheel.yaml"
        if new_url is not None and "\n  database: ''" in file.read_text():
            url = new_url()
            if (folder / "flywheel.db").exists():
                with Workspace.open(folder).lock() as there:
                    there.move_database(url)
                there.database.close()
            file.write_text(file.read_text().replace("\n  database: ''", f"\n  database: {url}"))
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

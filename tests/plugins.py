"""Other people's packages, made for a test: a module, an installed distribution that names it, and a workspace."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from flywheel.core.config import template
from flywheel.core.registry import Registry
from flywheel.store import Workspace

#: ``plugin(group, "name = module:OBJECT", code, package="p")`` installs a package.
Plugin = Callable[..., None]
#: ``commandline("export", "--out", …)`` runs the command line and returns its exit code.
Command = Callable[..., int]
_PACKAGES = ("flywheel", "annotators", "noise_control", "trainers", "human_refine")


def write_package(site: Path, module: str, source: str, points: dict[str, str], package: str = "") -> None:
    """A distribution of one module, as pip leaves it; ``points`` are ``group:name`` -> ``module:object``."""
    package = package or module
    information = site / f"{package.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    (site / f"{module}.py").write_text(dedent(source))
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups: dict[str, list[str]] = {}
    for point, value in points.items():
        group, _, name = point.partition(":")
        groups.setdefault(group, []).append(f"{name} = {value}")
    sections = ("\n".join([f"[{group}]", *entries]) for group, entries in groups.items())
    (information / "entry_points.txt").write_text("\n".join(sections) + "\n")


@contextmanager
def installed(folder: Path, module: str, source: str, points: dict[str, str], package: str = "") -> Iterator[Path]:
    """Within this, the distribution is on the path and the registries know of it; gives the folder it lies in."""
    site = folder / f"site-{package or module}"
    write_package(site, module, source, points, package)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    _forget()
    try:
        yield site
    finally:
        sys.path.remove(str(site))
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        _forget()


def _forget() -> None:
    """Registries scan the installed packages once; this makes them scan again."""
    ours = [module for name, module in list(sys.modules.items()) if name.split(".")[0] in _PACKAGES]
    for registry in [thing for module in ours for thing in vars(module).values() if isinstance(thing, Registry)]:
        vars(registry).pop("_foreign", None)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    with ExitStack() as packages:

        def install(group: str, entry: str, code: str, package: str = "other_people") -> None:
            name, _, value = entry.partition(" = ")
            module = value.partition(":")[0]
            packages.enter_context(installed(tmp_path, module, code, {f"{group}:{name}": value}, package))

        yield install


@pytest.fixture
def commandline(monkeypatch: pytest.MonkeyPatch) -> Command:
    from flywheel.cli import main

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["flywheel", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


@pytest.fixture(scope="session")
def six_clips(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A workspace with six clips."""
    from flywheel.ingest import ingest

    folder = tmp_path_factory.mktemp("six_clips") / "w"
    Workspace.create(folder, template())
    workspace = Workspace.open(folder)
    with workspace.lock():
        ingest(workspace, [str(corpus / "corpus")], limit=6)
    workspace.database.close()
    return folder


@pytest.fixture
def ingested(six_clips: Path, make_workspace: Callable[..., Workspace], tmp_path: Path) -> Workspace:
    """A workspace with six clips, one test's own."""
    shutil.copytree(six_clips, tmp_path / "w")
    return make_workspace()

"""Another package, as it lies on the path when it was installed: one module and the entry points that name it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def installed(folder: Path, module: str, source: str, points: dict[str, str], name: str = "") -> Iterator[None]:
    """Within this, a package with one module is there; ``points`` are ``group:name`` -> ``module:object``."""
    name = name or module.replace("_", "-")
    root = folder / f"site-{name}"
    info = root / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (root / f"{module}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups: dict[str, list[str]] = {}
    for point, value in points.items():
        group, _, entry = point.partition(":")
        groups.setdefault(group, []).append(f"{entry} = {value}")
    lines = [f"[{group}]\n" + "\n".join(entries) + "\n" for group, entries in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    _forget()
    try:
        yield
    finally:
        sys.path.remove(str(root))
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        _forget()


def _forget() -> None:
    """Registries look at what is installed once a process."""
    import gc

    from flywheel.core.registry import Registry

    for registry in gc.get_objects():
        if isinstance(registry, Registry):
            registry.__dict__.pop("_foreign", None)

"""Engines that write annotations, prompts as files, and the parsing of replies."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from annotators.interface import Engine, Request, Result, Sampling
from flywheel.core.registry import Registry
from flywheel.kinds import Unusable, parse_caption

__all__ = ["Engine", "Request", "Result", "Sampling", "Unusable", "build", "names", "parse_caption", "prompt_file"]

_registry = Registry("annotators.engines", what="annotate.engine")


def build(name: str, /, **arguments: Any) -> Engine:
    """The engine of this name. Raises UserError for an unknown name or argument."""
    engine: Engine = _registry.build(name, **arguments)
    return engine


def prompt_file(name: str, root: Path) -> Path:
    """The file of a bundled prompt, or the path that the name is (relative ones from ``root``)."""
    bundled = Path(str(resources.files("annotators") / "prompts" / f"{name}.yaml"))
    if "/" not in name and bundled.exists():
        return bundled
    path = Path(name).expanduser()
    return path if path.is_absolute() else root / path


def names() -> list[str]:
    return _registry.names()

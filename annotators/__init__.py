"""Asks models about many clips: engines, prompts, kinds of text, and the pass that writes every key once."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from annotators.engines import build, names
from annotators.interface import Engine, Request, Result, Sampling
from flywheel.kinds import Unusable, parse_caption

__all__ = ["Engine", "Request", "Result", "Sampling", "Unusable", "build", "names", "parse_caption", "prompt_file"]


def prompt_file(name: str, root: Path) -> Path:
    """The file of a bundled prompt, or the path that the name is (relative ones from ``root``)."""
    bundled = Path(str(resources.files("annotators") / "prompts" / f"{name}.yaml"))
    if "/" not in name and bundled.exists():
        return bundled
    path = Path(name).expanduser()
    return path if path.is_absolute() else root / path

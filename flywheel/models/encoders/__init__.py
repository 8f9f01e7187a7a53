"""Encoders by name: one file each; ``build("trimodal", width=96)``, ``names()``.

An encoder makes of pictures, sounds and texts unit vectors whose products say how well they go together. Other
packages' are entry points of the group ``flywheel.encoders``.
"""

from __future__ import annotations

from typing import Any

from flywheel.core.registry import Registry
from flywheel.models.encoders._interface import ALL, SOUND, TEXT, VIDEO, Batch, Embedder, Encoder, Masks, Modality, Pair

__all__ = [
    "ALL",
    "SOUND",
    "TEXT",
    "VIDEO",
    "Batch",
    "Embedder",
    "Encoder",
    "Masks",
    "Modality",
    "Pair",
    "build",
    "names",
]

_registry = Registry("flywheel.models.encoders", what="encoder", group="flywheel.encoders")


def build(name: str, /, **sizes: Any) -> Encoder:
    """The encoder of this name with random weights; sizes that are left out are the small preset's.

    Raises UserError for an unknown name or size, ValueError for sizes that don't go together.
    """
    encoder: Encoder = _registry.build(name, **sizes)
    return encoder


def names() -> list[str]:
    """Names of all encoders, sorted."""
    return _registry.names()

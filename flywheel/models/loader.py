"""The one keeper of the accelerator: at most one model is loaded at a time, and its input builder is kept."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm, load_vlm


class Loader:
    """Loads models for a command, one after the other."""

    def __init__(self, *, keep_bytes: int = 2 << 30) -> None:
        """``keep_bytes`` is the most that each builder's kept pixels may take."""
        self._keep_bytes = keep_bytes
        self._builders: dict[str, InputBuilder] = {}
        self._loaded: tuple[tuple[Path, Path | None, str], Vlm] | None = None

    def load(
        self,
        model: Path,
        adapter: Path | None = None,
        *,
        precision: str = "auto",
        inputs: Collection[str] = ("frames",),
    ) -> Vlm:
        """The model, loaded anew or as it was loaded last. A trained one must be let go of with :meth:`unload`."""
        wanted = (model, adapter, precision)
        if self._loaded is None or self._loaded[0] != wanted:
            self.unload()
            self._loaded = (wanted, load_vlm(model, adapter, precision=precision, inputs=inputs))
        return self._loaded[1]

    def unload(self) -> None:
        """Let go of the model, so that another process or engine can have the accelerator."""
        self._loaded = None

    def builder(self, processor: Any, role: str = "main") -> InputBuilder:
        """The role's input builder, made once: every round's model has the base's processor, so pixels are kept."""
        if role not in self._builders:
            self._builders[role] = InputBuilder(processor, keep_bytes=self._keep_bytes)
        return self._builders[role]

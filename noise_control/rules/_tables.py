"""Tables with a row per group, under named fields; saved under the names and columns of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing import Self
else:
    # The tests check arguments at run time, and can't check this one.
    Self = Any


def saved(key: str, *shape: str | int) -> dict[str, Any]:
    """Metadata of a field that is saved under ``key``, with this shape after the groups.

    Sizes are numbers, or words that :meth:`Tables.zeros` is given. Fields without a shape may share a key: there they
    are columns, in the order of the fields.
    """
    return {"key": key, "shape": shape}


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Float64 tensors whose first axis is the group (G), or, after :meth:`of`, without that axis."""

    @classmethod
    def zeros(cls, groups: int, device: torch.device, **sizes: int) -> Self:
        """Tables for this many groups; ``sizes`` are those of axes that fields name."""

        def empty(shape: tuple[str | int, ...]) -> Tensor:
            numbers = [sizes[size] if isinstance(size, str) else size for size in shape]
            return torch.zeros(groups, *numbers, dtype=torch.float64, device=device)

        return cls(**{f.name: empty(f.metadata["shape"]) for f in fields(cls)})

    def of(self, index: int) -> Self:
        """One group's row: views, so that writing in them writes here."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def all(self) -> list[Tensor]:
        """The tensors, in the order of the fields."""
        return [getattr(self, f.name) for f in fields(self)]

    def copy_(self, other: Self) -> None:
        """Take over the other's values."""
        for table, value in zip(self.all(), other.all(), strict=True):
            table.copy_(value)

    def zero_(self) -> None:
        """Set everything to zero."""
        for table in self.all():
            table.zero_()

    def state(self, prefix: str, renamed: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        """What is saved: a tensor per key, under ``prefix.key``; ``renamed`` gives keys other names."""
        out: dict[str, Tensor] = {}
        for key, names in self._keys().items():
            tables = [getattr(self, name) for name in names]
            name = (renamed or {}).get(key, key)
            out[f"{prefix}.{name}"] = torch.stack(tables, -1) if len(tables) > 1 else tables[0]
        return out

    def load(self, prefix: str, state: Mapping[str, Tensor], renamed: Mapping[str, str] | None = None) -> None:
        """Take over what :meth:`state` gave. Raises KeyError where a table is missing."""
        for key, names in self._keys().items():
            table = state[f"{prefix}.{(renamed or {}).get(key, key)}"]
            columns = table.unbind(-1) if len(names) > 1 else (table,)
            for name, column in zip(names, columns, strict=True):
                getattr(self, name).copy_(column)

    @classmethod
    def _keys(cls) -> dict[str, list[str]]:
        """The fields that are saved together, by key."""
        keys: dict[str, list[str]] = {}
        for f in fields(cls):
            keys.setdefault(f.metadata["key"], []).append(f.name)
        return keys

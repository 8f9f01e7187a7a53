"""The weight that a loss gave each row of the data at its last visit: what suspicion of rows is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainers.ranks import all_reduce, distributed


class RowWeights(Mapping[int, float]):
    """Row -> mean token weight in [0, 1] at its last visit; rows that were not visited are absent.

    12 bytes a row, whether it was visited or not.
    """

    def __init__(self, num_rows: int) -> None:
        self._weight = torch.zeros(num_rows, dtype=torch.float64)
        #: The step of the last visit; -1 before any.
        self._step = torch.full((num_rows,), -1, dtype=torch.int32)

    def note(self, row_B: Int[Tensor, " B"], weight_B: Float[Tensor, " B"], step: int) -> None:
        """Take note of rows that were visited in this optimizer step."""
        self._weight[row_B.cpu()] = weight_B.cpu().double()
        self._step[row_B.cpu()] = step

    def gathered(self) -> RowWeights:
        """The last visits over all ranks; of two in one step the lowest rank's. Every rank must ask."""
        if not distributed():
            return self
        operations, rank = torch.distributed.ReduceOp, torch.distributed.get_rank()
        out = RowWeights(len(self._weight))
        out._step = all_reduce(self._step, operations.MAX)
        nobody = torch.full_like(self._step, torch.distributed.get_world_size())
        visitor = all_reduce(torch.where(self._step == out._step, rank, nobody), operations.MIN)
        out._weight = all_reduce(torch.where(visitor == rank, self._weight, torch.zeros_like(self._weight)))
        return out

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"weight": self._weight, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint. Weights of a data set of another size are not taken over: rows are others there."""
        if state["weight"].shape == self._weight.shape:
            self._weight, self._step = state["weight"].cpu().clone(), state["step"].cpu().clone()

    def __getitem__(self, row: int) -> float:
        if not 0 <= row < len(self._step) or self._step[row] < 0:
            raise KeyError(row)
        return float(self._weight[row])

    def __iter__(self) -> Iterator[int]:
        return iter((self._step >= 0).nonzero()[:, 0].tolist())

    def __len__(self) -> int:
        return int((self._step >= 0).sum())

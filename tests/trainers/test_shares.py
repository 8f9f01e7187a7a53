"""Shares of a step: each row is one rank's, whoever asks; who has none lets a filler through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.training_bed import examples
from trainers.data import BucketSampler, Clock, Rows
from trainers.forms import _with_row
from trainers.loss_trainer import LossTrainer
from trainers.row_weights import RowWeights
from trainers.shares import ShareLoader, Shares, ShareSampler


@pytest.mark.parametrize(("ranks", "parts"), [(1, 1), (2, 1), (3, 2), (8, 1)])
def test_all_ranks_and_parts_together_have_every_row_once(ranks: int, parts: int) -> None:
    for rows in ([5, 6, 7, 8, 9], [4], list(range(20))):
        of_ranks = [Shares(rank=rank, ranks=ranks, parts=parts).of(rows) for rank in range(ranks)]
        assert {len(of) for of in of_ranks} == {parts}, "no rank waits for another's part"
        each = [part for of in of_ranks for part in of]
        assert sorted(row for part in each for row in part if row >= 0) == rows
        assert all(len(part) == 1 for part in each if part[0] < 0)
        sizes = [len(part) if part[0] >= 0 else 0 for part in each]
        assert max(sizes) - min(sizes) <= 1


def test_ranks_go_through_an_epoch_in_equal_steps_and_other_epochs_differ() -> None:
    def loader(rank: int) -> ShareLoader:
        sampler = BucketSampler(examples(40, "g"), np.arange(40), 5, 0, Clock())
        return ShareLoader(Rows(40), ShareSampler(sampler, 5, Shares(rank=rank, ranks=3, parts=2)))

    loaders = [loader(rank) for rank in range(3)]
    epochs = []
    for epoch in (0, 1):
        for one in loaders:
            one.set_epoch(epoch)
        batches = [list(one) for one in loaders]
        assert [len(of) for of in batches] == [len(one) for one in loaders] == [16, 16, 16]
        rows = [row for of in batches for batch in of for row in batch if row >= 0]
        assert sorted(rows) == list(range(40))
        epochs.append(batches)
    assert epochs[0] != epochs[1]


def test_a_blank_row_brings_its_media_and_no_label() -> None:
    batch = {
        "input_ids": torch.tensor([[1, 2, 3, 4]]),
        "labels": torch.tensor([[-100, -100, 3, 4]]),
        "row": torch.tensor([7]),
        "row_weight": torch.tensor([2.0]),
    }
    blank = {
        "input_ids": torch.tensor([[9, 8]]),
        "labels": torch.tensor([[-100, 8]]),
        "pixel_values_videos": torch.ones(4, 6),
    }
    out = _with_row(batch, blank)
    assert out["input_ids"].tolist() == [[1, 2, 3, 4], [9, 8, 0, 0]]
    assert out["labels"].tolist() == [[-100, -100, 3, 4], [-100] * 4]
    assert out["pixel_values_videos"].shape == (4, 6)
    assert (out["row"].tolist(), out["row_weight"].tolist()) == ([7, -1], [2.0, -1.0])


def test_rows_of_which_no_token_counts_get_no_weight() -> None:
    """A blank row is none of the data's: it must not be its last. A text that teaches nothing was not weighed."""
    weights = RowWeights(5)
    trainer: Any = SimpleNamespace(
        _token_loss=SimpleNamespace(last_weight_N=torch.tensor([0.2, 0.4, 1.0])),
        _row_weights=weights,
        state=SimpleNamespace(global_step=3),
    )
    LossTrainer._note_weights(trainer, torch.tensor([2, 3, 0, -1]), torch.tensor([0, 0, 2]))
    assert dict(weights) == pytest.approx({2: 0.3, 0: 1.0})

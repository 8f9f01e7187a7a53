"""The tests run with checks of shapes and types; if they were off, wrong annotations would stay."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from flywheel.metrics.paired import grouped
from noise_control import losses
from trainers.row_weights import RowWeights

pytestmark = pytest.mark.skipif(os.environ.get("FLYWHEEL_TEST_TYPES") == "0", reason="the checks are left out")


def test_wrong_shapes_and_types_are_seen_in_each_room() -> None:
    with pytest.raises(TypeCheckError, match="target_N"):
        losses.build("mle")(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))
    with pytest.raises(TypeCheckError, match="target_N"):
        losses.build("mle")(torch.zeros(3, 4), torch.zeros(3))
    with pytest.raises(TypeCheckError, match="weight_B"):
        RowWeights(4).note(torch.tensor([1, 2]), torch.zeros(3), 0)
    with pytest.raises(TypeCheckError, match="values"):
        grouped(np.zeros((2, 2)), None)


@pytest.mark.usefixtures("unchecked")
def test_they_can_be_left_out() -> None:
    assert losses.build("mle")(torch.zeros(3, 4), torch.tensor([1, 2, 3])).shape == (3,)
    RowWeights(4).note(torch.tensor([1, 2]), torch.zeros(1), 0)

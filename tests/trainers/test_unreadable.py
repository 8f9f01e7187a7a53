"""Clips whose files are gone are left out of a training and named; where they are most, it stops and is not done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

import trainers
from flywheel.core.errors import MediaError
from flywheel.core.reading import Unreadable
from flywheel.models.inputs import ClipInput
from noise_control import losses
from tests.trainers.training_bed import Sink, data, fresh, picture
from trainers import TrainingPlan, TrainingResult


def trained(folder: Path, gone: Collection[str], steps: int, **more: object) -> TrainingResult:
    """Two rows a step of six clips, of which some can't be read; a checkpoint each step."""

    def read(clip_id: str) -> ClipInput:
        if clip_id in gone:
            raise MediaError("the file is gone")
        return picture(clip_id)

    vlm, builder = fresh()
    plan = TrainingPlan(num_steps=steps, batch_size=2, learning_rate=1e-4, save_every=1)
    rows = replace(data(6), input=read, name=lambda clip_id: f"/videos/{clip_id}.mp4", **more)  # type: ignore[arg-type]
    return trainers.train(vlm, builder, rows, losses.build("mle"), plan, folder, sink=Sink(), label="pretrain")


@pytest.mark.slow
def test_what_is_gone_is_left_out_and_said_also_after_a_resume(tmp_path: Path) -> None:
    first = trained(tmp_path, {"1", "4"}, 3)
    assert first.unreadable == {"1": "the file is gone", "4": "the file is gone"}
    assert (first.steps, set(first.row_weight)) == (3, {0, 2, 3, 5})
    again = trained(tmp_path, {"1", "4"}, 4)
    assert (again.steps, again.unreadable) == (4, first.unreadable)


@pytest.mark.slow
def test_where_most_are_gone_it_stops_and_begins_anew_when_they_are_back(tmp_path: Path) -> None:
    with pytest.raises(
        Unreadable,
        match=r"pretrain: \d of \d clips can't be read: /videos/\d.mp4 \(the file is gone\), .* Is the disk mounted\?",
    ):
        trained(tmp_path, {"0", "1", "2", "3"}, 2)
    assert not list(tmp_path.glob("checkpoint-*"))
    assert trained(tmp_path, (), 1).unreadable == {}

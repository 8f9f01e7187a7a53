"""What ends a training from outside is one line with its cause and what to change; our own errors pass as they are."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training_bed import Sink, data

import trainers
from flywheel.core.config import parse_config
from flywheel.core.errors import BorderError, FlywheelError
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import Vlm
from trainers.border import foreign_failures


def test_a_lack_of_memory_names_what_to_lower() -> None:
    """A real one: a tensor of more than there is."""
    message = r"^pretrain: no memory is left: .*allocate.*\. Lower pretrain\.batch_size"
    with pytest.raises(BorderError, match=message), foreign_failures("pretrain"):
        torch.empty(1 << 55, dtype=torch.uint8)


def test_checkpoints_of_another_model_say_what_to_do() -> None:
    """Of weights of another shape, and of an optimizer with moments of other weights: torch's own words of both."""
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(3, 3)
    few = torch.optim.AdamW([small.weight])
    message = (
        r"^pretrain: the checkpoint: .*{}.*\. Its checkpoints are of another model: set it back, "
        r"or delete the training's folder \.work to begin anew\.$"
    )
    with pytest.raises(BorderError, match=message.format("loading state_dict")), foreign_failures("pretrain"):
        large.load_state_dict(small.state_dict())
    with pytest.raises(BorderError, match=message.format("parameter group")), foreign_failures("pretrain"):
        torch.optim.AdamW(large.parameters()).load_state_dict(few.state_dict())


@pytest.mark.parametrize("write", [lambda file, x: save_file({"x": x}, file), lambda file, x: torch.save(x, file)])
def test_a_file_without_room_is_one_line(write: Callable[[Path, torch.Tensor], None], tmp_path: Path) -> None:
    """Real writers, of which the system takes no more than 64 KiB a file."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    message = r"^pretrain: the disk is full: .*\. Free space on the disk, or let files be larger, and run"
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, most))
    try:
        with pytest.raises(BorderError, match=message) as failure, foreign_failures("pretrain"):
            write(tmp_path / "weights", torch.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert failure.value.code == "full"


def test_a_training_is_guarded_before_its_first_step_too(tmp_path: Path) -> None:
    """The host's memory does not suffice for the model in the numbers that are trained."""

    class Large:
        def parameters(self) -> Any:
            return np.zeros(1 << 55, dtype=np.uint8)

    vlm = Vlm(model=Large(), processor=None, digest="", adapter_digest="")
    config, builder = parse_config({}), InputBuilder.__new__(InputBuilder)
    message = r"^pretrain: no memory is left: Unable to allocate .*\. Lower pretrain\.batch_size"
    none: dict[str, Any] = {"sink": Sink(), "held_out": None, "human": None}
    with pytest.raises(BorderError, match=message):
        trainers.pretrain(
            vlm, builder, config.pretrain, config.loss, data(2), tmp_path / "model", precision="fp32", **none
        )


def test_other_errors_pass() -> None:
    for error in (FlywheelError("ours"), ValueError("a mistake of ours")):
        with pytest.raises(type(error), match=str(error)), foreign_failures("finetune"):
            raise error


@pytest.mark.slow
def test_deepspeeds_own_cause_stands_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    deepspeed = pytest.importorskip("deepspeed")
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    config = {"train_batch_size": 3, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1}
    batches = r"^pretrain: DeepSpeed: Check batch related parameters.* 3 != 2 .*\. Let train_batch_size of DeepSpeed's"
    with pytest.raises(BorderError, match=batches), foreign_failures("pretrain"):
        deepspeed.runtime.config.DeepSpeedConfig(config)
    started = r"^pretrain: DeepSpeed: No module named 'mpi4py'\. Start the training with torchrun"
    with pytest.raises(BorderError, match=started), foreign_failures("pretrain"):
        deepspeed.initialize(model=torch.nn.Linear(2, 2), config=config)

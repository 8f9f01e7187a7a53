"""The output layer that gives the loss: the same training as with logits, in the wrappers that large models need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel.models.inputs import IGNORED
from noise_control import TokenContext, linear_loss, losses
from trainers.head import OutputHead


class Tiny(torch.nn.Module):
    """A language model's outside: embeddings, a body, an output layer, a config."""

    def __init__(self, soft_cap: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.body, self.head = (
            torch.nn.Embedding(40, 16),
            torch.nn.Linear(16, 16),
            torch.nn.Linear(16, 40, bias=False),
        )
        self.config = type("Config", (), {"final_logit_softcapping": soft_cap})()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(self.embed(ids))))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 40, (6, 9), generator=generator)
    labels = ids.clone()
    labels[:, :3] = IGNORED
    return ids, labels


def summed(model: Any, head: OutputHead | None, loss: Any) -> torch.Tensor:
    ids, labels = batch()
    place = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    target = labels[:, 1:][place]
    context = TokenContext(sequence_N=place[0])
    if head is None:
        return loss(model(ids)[place], target, context).sum()
    with head.replaced(
        lambda h, w, b: linear_loss(h[place], w, target, loss, b, context=context, reduction="sum", chunk_rows=7)
    ):
        return model(ids)  # type: ignore[no-any-return]


def test_the_same_gradients_as_with_logits_and_the_layer_is_itself_again() -> None:
    gradients = []
    for fused in (False, True):
        model = Tiny()
        head = OutputHead(model)
        assert head.replaceable
        value = summed(model, head if fused else None, losses.build("tailr", gamma=0.1))
        value.backward()
        gradients.append([value.detach(), *(p.grad for p in model.parameters())])
        assert model(batch()[0]).shape == (6, 9, 40)
        assert "forward" not in vars(model.head)
    for full, fused in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, full, rtol=1e-5, atol=1e-6)


def test_the_layer_is_itself_again_after_an_error() -> None:
    model = Tiny()
    with pytest.raises(ZeroDivisionError), OutputHead(model).replaced(lambda h, w, b: 1 / 0):  # type: ignore[arg-type, return-value]
        model(batch()[0])
    assert model(batch()[0]).shape == (6, 9, 40)


def test_wrapped_and_capped_layers_are_left_alone() -> None:
    class Wrapped(torch.nn.Linear):
        pass

    model = Tiny()
    model.head = Wrapped(16, 40)
    assert not OutputHead(model).replaceable
    assert not OutputHead(Tiny(soft_cap=30.0)).replaceable


def test_under_lora() -> None:
    """PEFT around the body: the head is frozen, the adapter learns what it learns with logits."""
    from peft import LoraConfig, get_peft_model

    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = get_peft_model(Tiny(), LoraConfig(r=2, target_modules=["body"]))  # type: ignore[arg-type]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.1)
        head = OutputHead(model.base_model.model)
        summed(model, head if fused else None, losses.build("mle")).backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
        assert all("lora" in n for n in found[-1])
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-5, atol=1e-6)


WORKER = """
import sys, torch, torch.distributed as dist
from datetime import timedelta
sys.path.insert(0, sys.argv[2])
from test_head import Tiny, batch
from noise_control import TokenContext, linear_loss, losses
from trainers.head import OutputHead

way = sys.argv[1]
dist.init_process_group("gloo", timeout=timedelta(seconds=120))
rank = dist.get_rank()
loss = losses.build("tailr", gamma=0.1)
model = Tiny()
head = OutputHead(model)
ids, labels = batch()
ids, labels = ids[rank * 3 : rank * 3 + 3], labels[rank * 3 : rank * 3 + 3]
place = (labels[:, 1:] != -100).nonzero(as_tuple=True)
target = labels[:, 1:][place]

def instead(h, w, b):
    assert w.shape == (40, 16), w.shape
    return linear_loss(h[place], w, target, loss, b, reduction="mean", chunk_rows=7)

if way == "ddp":
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        with head.replaced(instead):
            value = wrapped(ids)
        value.backward()
        optimizer.step()
    weight = model.head.weight.detach()
else:
    import deepspeed
    zero = {"stage": int(way), "stage3_param_persistence_threshold": 0}
    config = {"train_micro_batch_size_per_gpu": 3, "zero_optimization": zero,
              "zero_allow_untested_optimizer": True}
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.5), config=config)
    for _ in range(3):
        with head.replaced(instead):
            value = engine(ids)
        engine.backward(value)
        engine.step()
    if way == "3":
        with deepspeed.zero.GatheredParameters([model.head.weight]):
            weight = model.head.weight.detach().clone()
    else:
        weight = model.head.weight.detach()
if rank == 0:
    torch.save(weight.float(), sys.argv[3])
dist.barrier()
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["1", "2"])
def test_two_ranks_train_as_one(way: str, tmp_path: Path) -> None:
    """ZeRO-1 and 2 on two processes: the head after three steps is that of one process on the whole batch.

    DDP and ZeRO-3 train whole models in tests/rounds/test_devices.py.
    """
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            "2",
            "--master_port",
            "0",
            "--rdzv_backend",
            "c10d",
            "--rdzv_endpoint",
            "localhost:0",
            str(worker),
            way,
            str(Path(__file__).parent),
            str(tmp_path / "weight.pt"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ids, labels = batch()
    for _ in range(3):
        optimizer.zero_grad()
        place = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        losses.build("tailr", gamma=0.1)(model(ids)[place], labels[:, 1:][place]).mean().backward()
        optimizer.step()
    found = torch.load(tmp_path / "weight.pt", weights_only=True)
    torch.testing.assert_close(found, model.head.weight.detach(), rtol=1e-4, atol=1e-5)

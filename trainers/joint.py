"""Training on several ranks, or in parts: every step learns what one process would learn from the same rows.

What is one rank's alone ends here: a step's tokens are counted over all, looks are computed in shares and shown whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from noise_control import losses
from trainers.data import Collator
from trainers.forms import Forms
from trainers.loss_trainer import LossTrainer, supervised
from trainers.ranks import all_reduce, distributed, gathered, gathered_objects, num_ranks, this_rank
from trainers.shares import ShareLoader, Shares, ShareSampler


class JointTrainer(LossTrainer):
    """Of several ranks one, or one that adds up the gradients of a step's parts."""

    def __init__(self, *, parts: int, forms: Forms, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._shares = Shares(rank=this_rank(), ranks=num_ranks(), parts=parts)
        self._forms = forms
        self._step_tokens: Any = 1
        # By all tokens of the step, so by no number of parts.
        self.loss_is_scaled_for_ga = True

    def get_train_dataloader(self) -> ShareLoader:
        return ShareLoader(self.train_dataset, ShareSampler(self._sampler, self._batch_size, self._shares))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum(((batch["labels"][:, 1:] >= 0).sum() for batch in batches), torch.zeros((), dtype=torch.int64))
        self._step_tokens = summed(count).clamp(min=1)
        return batches, None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        # The figures are those of the whole step, on every rank.
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return summed(loss) / self._shares.ranks

    def _mean(self, total: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
        # Gradients become the mean over ranks.
        mean: Tensor = total * self._shares.ranks / self._step_tokens
        return mean

    def _of_all(self, values: Shaped[Tensor, "*local"]) -> Shaped[Tensor, "*all"]:
        return gathered(values) if distributed() else values

    def _rows_before(self, count: int) -> int:
        return sum(gathered_objects(count)[: self._shares.rank]) if distributed() else 0

    def _share(self, rows: list[int]) -> list[int]:
        return Shares(rank=self._shares.rank, ranks=self._shares.ranks).of(rows)[0]

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> Any:
        return super()._prepare_inputs(self._forms.same(dict(inputs)))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean over batches of held-out rows of their mean loss, as transformers' own."""
        model, means = self.model_wrapped, []
        model.eval()
        count = len(self._collator())
        with torch.no_grad(), self.compute_loss_context_manager():
            for start in range(0, count, self._batch_size):
                total, tokens = self._nll(model, list(range(start, min(start + self._batch_size, count))))
                means.append(total / max(1.0, tokens))
        metrics = {"eval_loss": sum(means) / len(means)}
        self.log(metrics)
        return metrics

    def _nll(self, model: Any, rows: list[int]) -> list[float]:
        """The summed likelihood loss of held-out rows, and the number of their tokens."""
        sums = torch.zeros(2, dtype=torch.float64)
        for batch in self._feeder.batches(self._collator(), self._shares.of(rows)):
            inputs = self._prepare_inputs(batch)
            row, _, _ = (inputs.pop(name) for name in ("row", "group", "row_weight"))
            target_N, _, place = supervised(inputs.pop("labels"))
            total, _ = self._loss_of(model, inputs, target_N, place, row, losses.build("mle"), None)
            sums += torch.tensor([float(total), len(target_N)], dtype=torch.float64)
        return [float(value) for value in summed(sums)]

    def _collator(self) -> Collator:
        assert self._held_out is not None
        return self._held_out

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)
        elif output_dir is not None:
            # DeepSpeed's own checkpoint, which follows, has the weights.
            Path(output_dir).mkdir(parents=True, exist_ok=True)


def reading_states(collators: Mapping[str, Collator]) -> dict[str, Any]:
    """What could and could not be read so far, over all ranks. Every rank must ask."""
    own = {name: collator.state() for name, collator in collators.items()}
    if not distributed():
        return own
    of_ranks = gathered_objects(own)
    return {name: _added([states[name] for states in of_ranks]) for name in own}


def _added(states: list[dict[str, Any]]) -> dict[str, Any]:
    unreadable = {clip: why for state in states for clip, why in state["unreadable"].items()}
    return {"unreadable": unreadable, **{name: sum(s[name] for s in states) for name in ("tried", "failed")}}


def summed(value: Tensor) -> Tensor:
    """The sum over ranks."""
    return all_reduce(value.detach()) if distributed() else value.detach()

"""transformers' Trainer with a token loss of ours, and its looks at people's texts.

Shape suffixes: B clips, S tokens, V vocabulary, D hidden, N tokens that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from transformers import Trainer

from flywheel.core.errors import FlywheelError
from flywheel.models.features import PIXELS, KeptFeatures
from flywheel.models.inputs import IGNORED
from noise_control import TokenContext, TokenLoss, linear_loss, losses
from trainers.data import Collator
from trainers.feeding import FedLoader, Feeder
from trainers.head import OutputHead
from trainers.pairs import RowSampler
from trainers.row_weights import RowWeights

#: Texts of people, and as many held-out ones, that an adaptive loss is shown at a time; more would cost a large model
#: more than they tell.
_MOST_SHOWN = 128


class LossTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with a token loss of ours."""

    def __init__(
        self,
        *,
        token_loss: TokenLoss,
        human: Collator | None,
        held_out: Collator | None,
        human_every: int,
        batch_size: int,
        sampler: RowSampler,
        row_weights: RowWeights,
        feeder: Feeder,
        batch: Collator,
        features: KeptFeatures | None = None,
        **arguments: Any,
    ) -> None:
        # The loader gives rows; what makes batches of them runs ahead of it.
        super().__init__(data_collator=list, **arguments)
        self._feeder, self._batch, self._features = feeder, batch, features
        self._rows: Any = None
        self._batches: Iterator[dict[str, Any]] = iter(())
        self.model_accepts_loss_kwargs = False
        self._token_loss, self._human, self._held_out = token_loss, human, held_out
        self._human_every, self._batch_size, self._sampler = human_every, batch_size, sampler
        self._head = OutputHead(self.model)
        self._row_weights = row_weights
        self._looked = -1

    def _get_train_sampler(self, train_dataset: Any = None) -> RowSampler:
        return self._sampler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        assert self._held_out is not None
        return FedLoader(self._feeder, self._held_out, rows, self.args.eval_batch_size)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        if epoch_iterator is not self._rows:
            self._rows, self._batches = epoch_iterator, self._feeder.batches(self._batch, epoch_iterator)
        return super().get_batch_samples(self._batches, num_batches, device)

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        ready: dict[str, Any] = super()._prepare_inputs(dict(inputs))
        if self._features is not None and (pixels := ready.pop(PIXELS, None)) is not None:
            ready |= self._features.instead(pixels)
        return ready

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        row, group, row_weight = (inputs.pop(name) for name in ("row", "group", "row_weight"))
        target_N, sequence_N, place = supervised(inputs.pop("labels"))
        if not model.training:
            # What is compared over losses and steps is plain likelihood.
            total, outputs = self._loss_of(model, inputs, target_N, place, row, losses.build("mle"), None)
            loss = total / max(1, len(target_N))
            return (loss, outputs) if return_outputs else loss
        looks = self._human is not None and self._token_loss.adapts
        if looks and self.state.global_step % self._human_every == 0 and self._looked != self.state.global_step:
            # Once a step, in however many parts it is taken.
            self._looked = self.state.global_step
            self._look(model)
        context = TokenContext(
            sequence_N=sequence_N, row_N=row[sequence_N], group_N=group[sequence_N], scale_N=row_weight[sequence_N]
        )
        total, outputs = self._loss_of(model, inputs, target_N, place, row, self._token_loss, context)
        self._note_weights(row, sequence_N)
        loss = self._mean(total, len(target_N))
        return (loss, outputs) if return_outputs else loss

    def _mean(self, total: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
        """The mean over the step's tokens, from the sum over these ``count``."""
        return total / max(1, count)

    def _of_all(self, values: Shaped[Tensor, "*local"]) -> Shaped[Tensor, "*all"]:
        """The rows of all ranks, in the order of their clips; here those of this one."""
        return values

    def _rows_before(self, count: int) -> int:
        """How many rows the ranks before this one have, where this one has ``count``."""
        return 0

    def _loss_of(
        self,
        model: Any,
        inputs: dict[str, Any],
        target_N: Int[Tensor, " N"],
        place: tuple[Tensor, Tensor],
        row: Int[Tensor, " B"],
        loss: TokenLoss,
        context: TokenContext | None,
    ) -> tuple[Float[Tensor, ""], Any]:
        """The summed loss of a batch, without its logits where the output layer allows."""

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            if not len(target_N):
                # Nothing here is learned; yet the step goes through all weights, as the other ranks' does.
                return 0 * (hidden_BSD.sum() + weight_VD.sum())
            summed: Tensor = linear_loss(
                hidden_BSD[place], weight_VD, target_N, loss, bias, context=context, reduction="sum"
            )
            return summed

        if self._head.replaceable:
            with self._head.replaced(instead):
                outputs = model(**inputs)
            total = outputs.logits
        else:
            outputs = model(**inputs)
            total = loss(outputs.logits[place], target_N, context).sum()
        if not torch.isfinite(total):
            raise FlywheelError(
                f"training: step {self.state.global_step}: the loss of rows {row.tolist()} is not finite. "
                "Lower the learning rate or look at these clips."
            )
        return total, outputs

    def _look(self, model: Any) -> None:
        """Show the loss people's texts, the same with noise words, and held-out ones.

        All in eval mode; a different part of them each time where there are many.
        """
        assert self._human is not None
        model.eval()
        with torch.no_grad():
            for batch in self._shown(self._human):
                self._show(model, batch, self._token_loss.observe_human)
                for corrupted in self._corrupted(batch):
                    self._show(model, corrupted, self._token_loss.observe_corrupted)
            for batch in self._shown(self._held_out):
                self._show(model, batch, self._token_loss.observe_source)
        model.train()

    def _shown(self, collator: Collator | None) -> Iterator[dict[str, Any]]:
        """Batches of the texts to show at this step; none without a collator."""
        if collator is None:
            return
        rows = list(range(len(collator)))
        if len(rows) > _MOST_SHOWN:
            rows = (
                np.random.default_rng([self.args.seed, self.state.global_step]).permutation(rows)[:_MOST_SHOWN].tolist()
            )
        size = self._batch_size
        chunks = [self._share(rows[start : start + size]) for start in range(0, len(rows), size)]
        for batch in self._feeder.batches(collator, chunks):
            yield self._prepare_inputs(batch)

    def _share(self, rows: list[int]) -> list[int]:
        """Of these rows those that this rank lets through."""
        return rows

    def _corrupted(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The batch with noise words in place of some of its own, as inputs and as targets; the loss chooses them."""
        target_N, sequence_N, (row_N, column_N) = supervised(batch["labels"])
        before, sequence_N = self._rows_before(len(target_N)), self._numbered(sequence_N, len(batch["labels"]))
        for number, replaced_N in self._token_loss.corrupted(
            self._of_all(target_N), TokenContext(sequence_N=self._of_all(sequence_N))
        ):
            out = {**batch, "input_ids": batch["input_ids"].clone(), "labels": batch["labels"].clone()}
            mine_N = replaced_N[before : before + len(target_N)]
            out["input_ids"][row_N, column_N + 1] = out["labels"][row_N, column_N + 1] = mine_N
            out["group"] = torch.full_like(batch["group"], number)
            yield out

    def _show(self, model: Any, batch: dict[str, Any], observe: Callable[[Tensor, Tensor, TokenContext], None]) -> None:
        batch = dict(batch)
        group, labels_BS, *_ = (batch.pop(name) for name in ("group", "labels", "row", "row_weight"))
        target_N, sequence_N, place = supervised(labels_BS)
        # Hidden states of all ranks are some megabytes, and make the same logits everywhere.
        group_N = self._of_all(group[sequence_N])
        sequence_N = self._of_all(self._numbered(sequence_N, len(labels_BS)))
        target_N = self._of_all(target_N)

        def observe_text(logits_NV: Tensor, text_N: Tensor) -> None:
            observe(logits_NV, target_N[text_N], TokenContext(sequence_N=sequence_N[text_N], group_N=group_N[text_N]))

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            # Text by text: the logits of one are all that is held.
            hidden_ND = self._of_all(hidden_BSD[place])
            for index in torch.unique(sequence_N):
                text_N = sequence_N == index
                observe_text(torch.nn.functional.linear(hidden_ND[text_N], weight_VD, bias), text_N)
            return hidden_BSD.new_zeros(())

        if self._head.replaceable:
            with self._head.replaced(instead):
                model(**batch)
        else:
            logits_NV = self._of_all(model(**batch).logits[place])
            observe_text(logits_NV, torch.ones_like(sequence_N, dtype=torch.bool))

    def _numbered(self, sequence_N: Int[Tensor, " N"], count: int) -> Int[Tensor, " N"]:
        """The number of each token's text among those of all ranks; here are ``count`` texts."""
        return sequence_N + self._rows_before(count)

    def _note_weights(self, row: Int[Tensor, " B"], sequence_N: Int[Tensor, " N"]) -> None:
        weight_N = self._token_loss.last_weight_N
        if weight_N is None or not len(sequence_N):
            return
        sums = torch.zeros(len(row), dtype=weight_N.dtype).index_add_(0, sequence_N.cpu(), weight_N.cpu())
        counts = torch.bincount(sequence_N.cpu(), minlength=len(row))
        # A blank row (-1) is none of the data's, and of one without a token that counts nothing was weighed.
        noted = (row.cpu() >= 0) & (counts > 0)
        self._row_weights.note(row.cpu()[noted], (sums / counts)[noted], self.state.global_step)


def supervised(
    labels_BS: Int[Tensor, "B S"],
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"], tuple[Int[Tensor, " N"], Int[Tensor, " N"]]]:
    """Of the tokens that count: targets, which sequence each is of, and where in (B, S) they are predicted."""
    targets = labels_BS[:, 1:]
    row_N, column_N = (targets != IGNORED).nonzero(as_tuple=True)
    return targets[row_N, column_N], row_N, (row_N, column_N)

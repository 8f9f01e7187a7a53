"""Training on pairs of texts, alone or beside texts to learn; the reference is the model without its adapter.

Shape suffixes: B texts, N tokens that count, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flywheel.core.errors import FlywheelError
from flywheel.models.inputs import IGNORED
from noise_control import linear_loss
from trainers.joint import JointTrainer, summed
from trainers.loss_trainer import LossTrainer, supervised
from trainers.pair_loss import CHOSEN, LEARNED, PairLoss, PairScores


class PairTrainer(LossTrainer):
    """A trainer whose batches hold texts to learn and pairs, as :class:`trainers.pairs.PairCollator` makes them.

    Its token loss is a :class:`trainers.pair_loss.PairLoss`, its model one with an adapter.
    """

    _token_loss: PairLoss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        part, row, _, weight = (inputs.pop(name) for name in ("part", "row", "group", "row_weight"))
        target_N, text_N, place = supervised(inputs.pop("labels"))
        # Every rank asks it of every batch: where weights are sharded, all must go through them.
        with torch.no_grad(), self._without_adapter(model):
            base_N = self._token_nll(model, inputs, target_N, place)
        nll_N = self._token_nll(model, inputs, target_N, place)
        scores = PairScores.of(_of_texts(nll_N, text_N, len(part)), _of_texts(base_N, text_N, len(part)), part)
        pairs = self._token_loss.of_pairs(scores, weight[part == CHOSEN])
        live_N = part[text_N] == LEARNED
        texts = (nll_N * weight[text_N])[live_N].sum()
        loss = self._mean(texts, int(live_N.sum())) + self._mean_of_pairs(pairs, len(scores.chosen_P))
        # A sum of none hangs on no weight, and each step goes through them as the other ranks' does.
        loss = loss + 0 * nll_N.sum()
        if not torch.isfinite(loss):
            raise FlywheelError(
                f"training: step {self.state.global_step}: the loss of rows {row.tolist()} is not finite. "
                "Lower the learning rate or look at these clips."
            )
        return (loss, None) if return_outputs else loss

    def _mean_of_pairs(self, total: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
        """The mean over the step's pairs, from the sum over these ``count``."""
        return total / max(1, count)

    @contextmanager
    def _without_adapter(self, model: Any) -> Iterator[None]:
        """Within this context the model is the one that its adapter is trained on, in eval mode."""
        model.eval()
        try:
            with self.accelerator.unwrap_model(model).disable_adapter():
                yield
        finally:
            model.train()

    def _token_nll(
        self, model: Any, inputs: dict[str, Any], target_N: Int[Tensor, " N"], place: tuple[Tensor, Tensor]
    ) -> Float[Tensor, " N"]:
        """-log p of each token that counts, in nats."""

        def instead(hidden_BSD: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
            if not len(target_N):
                return hidden_BSD.new_zeros(0) + 0 * (hidden_BSD.sum() + weight_VD.sum())
            nll_N: Tensor = linear_loss(hidden_BSD[place], weight_VD, target_N, self._token_loss, bias)
            return nll_N

        if self._head.replaceable:
            with self._head.replaced(instead):
                nll: Tensor = model(**inputs).logits
            return nll
        full: Tensor = self._token_loss(model(**inputs).logits[place], target_N)
        return full


class JointPairTrainer(PairTrainer, JointTrainer):
    """The same on several ranks, or in parts: a step's tokens and pairs are counted over all."""

    _step_pairs: Any = 1

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        batches, _ = LossTrainer.get_batch_samples(self, epoch_iterator, num_batches, device)
        counts = torch.zeros(2, dtype=torch.int64)
        for batch in batches:
            is_learned = (batch["part"] == LEARNED)[:, None] & (batch["labels"][:, 1:] != IGNORED)
            counts += torch.stack([is_learned.sum(), (batch["part"] == CHOSEN).sum()]).cpu()
        self._step_tokens, self._step_pairs = summed(counts).clamp(min=1)
        return batches, None

    def _mean_of_pairs(self, total: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
        # Gradients become the mean over ranks.
        mean: Tensor = total * self._shares.ranks / self._step_pairs
        return mean


def _of_texts(nll_N: Float[Tensor, " N"], text_N: Int[Tensor, " N"], count: int) -> Float[Tensor, " B"]:
    """The log-prob of each of ``count`` texts, (B,), from -log p of their tokens."""
    return -nll_N.new_zeros(count).index_add(0, text_N, nll_N)

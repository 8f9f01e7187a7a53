"""What a checkpoint holds beside transformers' own files: the loss's state, the rows' weights, the running loss.

All that a training keeps in memory and that decides on its result is here, so that a resumed run ends as one that was
not interrupted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from flywheel.core.config import Pretrain
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from noise_control import TokenLoss
from trainers.ranks import all_reduce, distributed, this_rank
from trainers.row_weights import RowWeights
from trainers.sharding import STAGES
from trainers.weights import Choice

_COMPLETE = "complete"
_LOSS_STATE = "loss_state.safetensors"
_ROW_WEIGHTS = "row_weights.safetensors"
_RUNNING_LOSS = "running_loss.safetensors"
_OPTIMIZER = "optimizer.json"
_READING = "reading.json"
_RANKS = "ranks.json"
_TEXTS = "texts.json"
_ROWS = "rows.digest"
_WHOLE = {"strategy": "whole", "ranks": 0}


def save(folder: Path, token_loss: TokenLoss, row_weights: RowWeights, trainer: Any) -> None:
    """Add our files to a checkpoint that transformers wrote, the mark that it is whole last. Every rank must ask."""
    weights, running = row_weights.gathered(), _running_loss(trainer)
    # To gather took all ranks: by now each has written its part.
    if not trainer.is_world_process_zero():
        return
    state = {name: table.cpu().contiguous() for name, table in token_loss.state_dict().items()}
    save_file(state, folder / _LOSS_STATE)
    save_file(weights.state_dict(), folder / _ROW_WEIGHTS)
    save_file(running, folder / _RUNNING_LOSS)
    # Written last: a checkpoint without it was cut off and is not gone on from.
    (folder / _COMPLETE).touch()


def load(folder: Path, token_loss: TokenLoss, row_weights: RowWeights, device: str) -> dict[str, torch.Tensor]:
    """Take over a checkpoint's state; returns the running loss, for :func:`restore_running_loss`.

    Checkpoints of versions before row weights were kept lack them: then only rows visited from now on have some.
    """
    token_loss.load_state_dict(load_file(folder / _LOSS_STATE, device=device))
    if (folder / _ROW_WEIGHTS).exists():
        row_weights.load_state_dict(load_file(folder / _ROW_WEIGHTS))
    return load_file(folder / _RUNNING_LOSS) if (folder / _RUNNING_LOSS).exists() else {}


def save_reading(folder: Path, states: Mapping[str, Any]) -> None:
    """Add what could and could not be read so far; before :func:`save`, whose mark comes last."""
    (folder / _READING).write_text(json.dumps(states))


def load_reading(folder: Path) -> dict[str, Any]:
    """What :func:`save_reading` added; nothing in checkpoints of versions before it."""
    file = folder / _READING
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _running_loss(trainer: Any) -> dict[str, torch.Tensor]:
    """transformers' sums behind the mean loss of the training and of the log's next line."""
    pending = trainer._tr_loss.detach().cpu()
    if distributed():
        pending = all_reduce(pending) / torch.distributed.get_world_size()
    return {
        "total": torch.tensor(trainer._total_loss_scalar, dtype=torch.float64),
        "pending": pending.clone(),
        "last_logged": torch.tensor(trainer._globalstep_last_logged),
    }


def restore_running_loss(trainer: Any, running: dict[str, torch.Tensor]) -> None:
    """Let the mean loss be that of all steps: transformers' own is of those since the resume."""
    if not running:
        return
    trainer._total_loss_scalar = float(running["total"])
    trainer._tr_loss.copy_(running["pending"])
    trainer._globalstep_last_logged = int(running["last_logged"])
    trainer._initial_global_step = 0


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint has behind it."""
    return int(checkpoint.name.rpartition("-")[2])


def last_checkpoint(work_folder: Path) -> Path | None:
    """The newest whole checkpoint; ones that were cut off are removed."""
    whole = []
    for folder in work_folder.glob("checkpoint-*"):
        if (folder / _COMPLETE).exists():
            whole.append(folder)
        else:
            # Of several ranks another may have been first.
            shutil.rmtree(folder, ignore_errors=True)
    return max(whole, key=step_of, default=None)


def forget(work_folder: Path) -> None:
    """Remove the folder's checkpoints: its training begins anew."""
    folders = list(work_folder.glob("checkpoint-*"))
    # The marks first: killed here, what is half removed is not gone on from.
    for folder in folders:
        (folder / _COMPLETE).unlink(missing_ok=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def same_rows(work_folder: Path, digest: str, label: str) -> None:
    """Let a training begin anew, and say so, where the folder's checkpoints learned other rows than these.

    ``digest`` is of all its examples (:func:`trainers.examples.digest_of`), and of what else must be the same; it is
    noted for the next time.
    """
    note, checkpoint = work_folder / _ROWS, last_checkpoint(work_folder)
    if checkpoint is not None:
        if note.exists() and note.read_text() == digest:
            return
        so_far = f"those of its {step_of(checkpoint)} steps so far"
        say(f"{label}: begins anew, since its texts, settings or base are others than {so_far}.")
        forget(work_folder)
    work_folder.mkdir(parents=True, exist_ok=True)
    note.write_text(digest)


def same_ranks(work_folder: Path, strategy: str, ranks: int) -> None:
    """Check that a training can go on from the folder's checkpoints; note what they will be of where it has none.

    Whole weights go on with any number of ranks, since all ranks together see what one would. Raises UserError where
    shards were written by another strategy or number of ranks.
    """
    note = work_folder / _RANKS
    now = {"strategy": strategy, "ranks": ranks} if strategy in STAGES else dict(_WHOLE)
    if last_checkpoint(work_folder) is None:
        if this_rank() == 0:
            work_folder.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(now))
        return
    # Versions before the note trained on one device, or by torchrun alone.
    was = json.loads(note.read_text()) if note.exists() else _WHOLE
    if was == now:
        return
    raise UserError(
        f"{work_folder}: its checkpoints are {_told(was)}, and this training would be {_told(now)}. "
        "Set train.strategy and train.devices back, or delete the folder to begin anew."
    )


def _told(of: Mapping[str, Any]) -> str:
    return f"shards of {of['strategy']} on {of['ranks']} devices" if of["strategy"] in STAGES else "of whole weights"


def same_texts(work_folder: Path, what: str) -> None:
    """Check that the folder's checkpoints learned from ``what``: texts, pairs or both; note it where it has none.

    Raises UserError where they learned from something else.
    """
    note = work_folder / _TEXTS
    if last_checkpoint(work_folder) is None:
        if this_rank() == 0:
            work_folder.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(what))
        return
    # Versions before the note learned from texts alone.
    was = json.loads(note.read_text()) if note.exists() else "texts"
    if was != what:
        raise UserError(
            f"{work_folder}: its checkpoints learned from {was}, and this training would from {what}. "
            "Set finetune.method back, or delete the folder to begin anew."
        )


def same_choice(work_folder: Path, plan: Pretrain, choice: Choice) -> Choice:
    """The optimizer that the folder's checkpoints are of; ``choice``, which is noted there, where it has none.

    Raises UserError where the configuration names another one than theirs, or another method.
    """
    note, now = work_folder / _OPTIMIZER, {"method": plan.method, "optimizer": choice.optimizer}
    if last_checkpoint(work_folder) is None:
        if this_rank() == 0:
            work_folder.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(now))
        return choice
    # Versions before the note trained all weights with AdamW.
    was = json.loads(note.read_text()) if note.exists() else {"method": "full", "optimizer": "adamw"}
    if was == now:
        return choice
    if plan.optimizer == "auto" and was["method"] == plan.method:
        return Choice(optimizer=was["optimizer"], reason="its checkpoints are of this one")
    raise UserError(
        f"{work_folder}: its checkpoints are of pretrain.method {was['method']} and optimizer {was['optimizer']}, not "
        f"{now['method']} and {now['optimizer']}. Set these back, or delete the folder to begin anew."
    )

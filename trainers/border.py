"""Turns what ends a training from outside (memory, the disk, DeepSpeed, ranks) into one line with what to change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch
from safetensors import SafetensorError

from flywheel.core.errors import BorderError, FlywheelError, first_line, root_of

#: What torch says where another rank does not answer.
_RANKS = (
    r"NCCL|[Gg]loo|ProcessGroup|connectFullMesh|Broken pipe|Connection (reset|closed)|Timed out (waiting|after)|"
    r"wait timeout after|Socket Timeout"
)
#: What it says of weights and moments of another model.
_OTHER_SHAPE = r"size mismatch|loaded state dict|doesn't match the size"
#: What the system, safetensors and torch say where a file can't be written to its end.
_DISK = (
    r"No space left|Disk quota exceeded|File too large|PytorchStreamWriter failed writing|"
    r"inline_container.*unexpected pos"
)
#: Signs in what is raised, and what to do.
_MENDS = (
    (
        r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED|Unable to allocate|MemoryError",
        "Lower {section}.batch_size, corpus.frames or corpus.max_side, or set pretrain.gradient_checkpointing",
    ),
    (r"CUDA_HOME|nvcc|unable to compile|Error building extension", "Install the CUDA toolkit that torch was built for"),
    (r"batch related parameters|train_batch_size", "Let train_batch_size of DeepSpeed's file be batch size x ranks"),
    (r"mpi4py|MASTER_ADDR|RANK expected", "Start the training with torchrun, deepspeed or accelerate launch"),
    (_RANKS, "See why another rank ended; start all"),
    (
        _OTHER_SHAPE,
        "Its checkpoints are of another model: set it back, or delete the training's folder .work to begin anew",
    ),
    (r"Address already in use|EADDRINUSE", "Name another MASTER_PORT"),
    (_DISK, "Free space on the disk, or let files be larger, and run the same command"),
)
_THE_RANKS, _THE_DISK = "the ranks", "the disk is full"
#: What programs read of these failures.
_CODES = {_THE_RANKS: "ranks", _THE_DISK: "full"}
_OUT_OF_MEMORY = re.compile(_MENDS[0][0])


@contextlib.contextmanager
def foreign_failures(section: str) -> Iterator[None]:
    """Raises BorderError for a lack of memory or room, and for what DeepSpeed and torch's ranks raise; others pass.

    ``section`` of the configuration says how it is trained. The code of what ranks raise of each other is "ranks", of a
    full disk "full".
    """
    try:
        yield
    except Exception as error:
        who = _raiser(error)
        if not who:
            raise
        root = first_line(root_of(error))
        mend = next((mend for sign, mend in _MENDS if re.search(sign, f"{root} {error}")), "The log has all of it")
        message = f"{section}: {who}: {root.rstrip('.')}. {mend.format(section=section)}."
        raise BorderError(message, code=_CODES.get(who)) from error


def _raiser(error: Exception) -> str:
    """Who raised this, of those whose words need an explanation; empty for all others."""
    if isinstance(error, FlywheelError):
        return ""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))
    ):
        return "no memory is left"
    if isinstance(error, OSError | RuntimeError | SafetensorError) and re.search(_DISK, str(error)):
        return _THE_DISK
    if isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and re.search(_RANKS, str(error))
    ):
        return _THE_RANKS
    if isinstance(error, RuntimeError | ValueError) and re.search(_OTHER_SHAPE, str(error)):
        return "the checkpoint"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == "deepspeed":
            return "DeepSpeed"
        trace = trace.tb_next
    return ""

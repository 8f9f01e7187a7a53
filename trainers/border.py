"""Turns what ends a training from outside (memory, DeepSpeed, ranks) into one line with what to change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from flywheel.core.errors import BorderError, first_line, root_of

#: Signs in what is raised, and what to do.
_MENDS = (
    (
        r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED",
        "Lower {section}.batch_size, corpus.frames or corpus.max_side, or set pretrain.gradient_checkpointing",
    ),
    (r"CUDA_HOME|nvcc|unable to compile|Error building extension", "Install the CUDA toolkit that torch was built for"),
    (r"batch related parameters|train_batch_size", "Let train_batch_size of DeepSpeed's file be batch size x ranks"),
    (r"mpi4py|MASTER_ADDR|RANK expected", "Start the training with torchrun, deepspeed or accelerate launch"),
    (r"NCCL|Gloo|ProcessGroup|connectFullMesh|Broken pipe|Connection reset", "See why another rank ended; start all"),
    (r"Address already in use|EADDRINUSE", "Name another MASTER_PORT"),
    (r"No space left", "Free space on the disk"),
)
_OUT_OF_MEMORY = re.compile(_MENDS[0][0])


@contextlib.contextmanager
def foreign_failures(section: str) -> Iterator[None]:
    """Raises BorderError for a lack of memory, and for what DeepSpeed and torch's ranks raise; other errors pass.

    ``section`` of the configuration says how it is trained.
    """
    try:
        yield
    except Exception as error:
        who = _raiser(error)
        if not who:
            raise
        root = first_line(root_of(error))
        mend = next((mend for sign, mend in _MENDS if re.search(sign, f"{root} {error}")), "The log has all of it")
        raise BorderError(f"{section}: {who}: {root.rstrip('.')}. {mend.format(section=section)}.") from error


def _raiser(error: Exception) -> str:
    """Who raised this, of those whose words need an explanation; empty for all others."""
    if isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))
    ):
        return "no memory is left"
    if isinstance(error, torch.distributed.DistError):
        return "the ranks"
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == "deepspeed":
            return "DeepSpeed"
        trace = trace.tb_next
    return ""

"""How much memory a device has, and how much of it a training took."""

from __future__ import annotations

import os
import resource
import sys

import torch


def total_bytes(device: torch.device) -> int:
    """Bytes of memory of an accelerator; of the CPU, the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def start(device: torch.device) -> None:
    """Begin to watch for the peak of an accelerator's memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """Most GiB in use on an accelerator since :func:`start`; without one, by this process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30

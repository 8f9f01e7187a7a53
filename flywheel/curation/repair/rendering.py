"""An edited sound as a file: the plan done to the original's own channels at its own rate, whatever its length."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.types import Clip
from flywheel.curation.repair.plan import Plan
from flywheel.media.audio import read_channels, sound_form
from flywheel.media.wav import write_wav
from flywheel.sound import actions
from flywheel.store.sound_files import SoundFiles

#: Larger sounds lie in mapped files.
_IN_MEMORY = 1 << 26


def render(clip: Clip, plan: Plan, files: SoundFiles, check: Callable[[], None]) -> tuple[str, int]:
    """Keep the clip's sound with the plan done to it; returns the file's hash and bytes. The same each time.

    ``check`` is asked before and after the original is read whether it is the clip's file. Raises MediaError where the
    original can't be read, OSError where the disk is full.
    """
    path = Path(clip.uri)
    check()
    form = sound_form(path)
    length = max(1, round(clip.duration_s * form.rate_hz))
    shape = (length, form.channels)
    with files.scratch() as folder:
        samples = _array(folder / "0", shape)
        read_channels(path, clip.start_s, samples, form)
        check()
        for number, step in enumerate(plan.steps, 1):
            edited, done = _array(folder / str(number), shape), 0
            edit = actions.build(step.action, **step.parameters)
            for block in edit.blocks(partial(_span, samples), length, form.rate_hz):
                edited[done : done + len(block)] = block
                done += len(block)
            samples = edited
        blocks = (samples[start : start + form.rate_hz] for start in range(0, length, form.rate_hz))
        return files.add(
            lambda out: write_wav(out, blocks, length=length, channels=form.channels, rate_hz=form.rate_hz)
        )


def _span(samples: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    return samples[start:stop]


def _array(file: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Room for samples (n, channels): in memory, or in a file that is mapped."""
    num_bytes = 4 * shape[0] * shape[1]
    if num_bytes <= _IN_MEMORY:
        return np.zeros(shape, np.float32)
    with open(file, "wb") as opened:
        if hasattr(os, "posix_fallocate"):
            # A disk that is full says so here: while a mapped page is written, it would end the process.
            os.posix_fallocate(opened.fileno(), 0, num_bytes)
        else:
            opened.truncate(num_bytes)
    return np.memmap(file, np.float32, "r+", shape=shape)

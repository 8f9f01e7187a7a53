"""Measures edits of long sounds: ``python -m experiments.repair.hour ACTION --minutes 60``, a JSON line for each.

48 kHz in stereo, tones and noise drawn as they are asked for: what is held is the edit's. ``first_s`` and ``last_s``
are CPU seconds a minute of the first and the last tenth.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from flywheel.sound import actions

RATE_HZ = 48_000
VALUES = {"speed": {"rate": 1.04}, "pitch": {"semitones": 3.0}, "gain": {"db": 6.0}, "shift": {"seconds": 0.5}}


def read(start: int, stop: int) -> np.ndarray:
    """Samples (stop - start, 2): a tone that comes and goes, in noise that repeats each second."""
    at = np.arange(start, stop)
    tone = 0.2 * np.sin(2 * np.pi * 440 * (at % RATE_HZ) / RATE_HZ) * (at // (RATE_HZ // 2) % 2)
    return (tone[:, None] + _NOISE[at % RATE_HZ]).astype(np.float32)


_NOISE = np.random.default_rng(0).normal(0, 0.03, (RATE_HZ, 2)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    length = round(arguments.minutes * 60 * RATE_HZ)
    for name in arguments.names or actions.names():
        edit, done, spent = actions.build(name, **VALUES.get(name, {})), 0, []
        before = time.process_time()
        for block in edit.blocks(read, length, RATE_HZ):
            done += len(block)
            spent.append((done, time.process_time() - before))
        assert done == length
        minutes, seconds = np.array(spent).T
        minutes /= 60 * RATE_HZ
        tenth = arguments.minutes / 10
        first = np.interp(tenth, minutes, seconds) / tenth
        last = (seconds[-1] - np.interp(arguments.minutes - tenth, minutes, seconds)) / tenth
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row = {"action": name, "minutes": arguments.minutes, "cpu_s": round(float(seconds[-1]), 1)}
        row |= {"first_s": round(float(first), 3), "last_s": round(float(last), 3), "gib": round(gib, 3)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

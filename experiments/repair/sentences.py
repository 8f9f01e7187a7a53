"""Filters on spoken sentences under noise, with a veto and without: ``python -m experiments.repair.sentences M``.

espeak-ng speaks eight sentences in three voices, a clip a voice, under white noise. M is a Whisper model for
CTranslate2, or a package that has one. One JSON line for each level, filter, voice and seed, as
:mod:`experiments.repair.speech` has them, and with ``--sum FILE`` their means over voices, with standard errors over
seeds.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

from flywheel.core.config import Transcribe
from flywheel.curation.repair.recogniser import Recogniser, Understood
from flywheel.sound import actions

RATE_HZ = 16_000
VOICES = ("en-us", "en-gb", "en-us+f3")
SENTENCES = (
    "The river rose in the night and took the wooden bridge with it.",
    "Please close the window before the papers fly off the table.",
    "Seven people waited at the station for a train that never came.",
    "She put the bread into the oven and set the clock to forty minutes.",
    "A grey dog slept under the bench while children played with a ball.",
    "The engine must be cold before you open the cap.",
    "We walked along the shore until the lights of the town were gone.",
    "His sister plays the cello and teaches music in the old school.",
)
FILTERS = ("spectral_gate", "wiener", "spectral_subtraction", "wavelet")


def spoken(voice: str) -> NDArray[np.float32]:
    """All sentences, spoken one after the other: mono samples (n,)."""
    command = ["espeak-ng", "-v", voice, "-s", "165", "--stdout", " ".join(SENTENCES)]
    done = subprocess.run(command, capture_output=True, check=True)
    # The header of a stream tells no length: what comes is the length.
    rate_hz = int.from_bytes(done.stdout[24:28], "little")
    samples = np.frombuffer(io.BytesIO(done.stdout[44:]).getbuffer(), dtype="<i2").astype(np.float32) / 32768
    return scipy.signal.resample_poly(samples, RATE_HZ, rate_hz).astype(np.float32)


def errors(understood: Understood) -> float:
    """Words that are wrong, missing or too many, as a share of those said."""
    spoken, found = (re.sub(r"[^a-z\s]", "", text.lower()).split() for text in (" ".join(SENTENCES), understood.text))
    row = list(range(len(found) + 1))
    for i, word in enumerate(spoken, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1] / len(spoken)


def measure(recogniser: Recogniser, levels: list[float], seeds: range, filters: list[str]) -> None:
    """Print a line for each voice, level, seed and filter."""
    for voice in VOICES:
        speech = spoken(voice)
        clean = recogniser.understood(speech, RATE_HZ)
        print(json.dumps({"voice": voice, "clean": round(errors(clean), 3), "words": clean.words}), flush=True)
    for snr_db in levels:
        for seed in seeds:
            for number, voice in enumerate(VOICES):
                speech = spoken(voice)
                noise = np.random.default_rng([seed, number, 78]).normal(size=len(speech))
                noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
                noisy = (speech + noise).astype(np.float32)
                noisy /= max(1.0, float(np.abs(noisy).max()))
                before = recogniser.understood(noisy, RATE_HZ)
                for name in filters:
                    edited = actions.build(name)(noisy, RATE_HZ)
                    after = recogniser.understood(edited, RATE_HZ)
                    row = {"snr_db": snr_db, "seed": seed, "voice": voice, "filter": name}
                    row |= {"before": round(errors(before), 3), "after": round(errors(after), 3)}
                    row |= {"logprob": [round(before.mean_logprob, 3), round(after.mean_logprob, 3)]}
                    print(json.dumps(row | {"veto": recogniser.veto(noisy, edited, RATE_HZ)}), flush=True)


def summary(file: Path) -> None:
    """Print for each level and filter: errors before, after, and after with the veto; changes with standard errors."""
    groups: dict[tuple[float, str], dict[int, list[tuple[float, float, float, bool]]]] = defaultdict(dict)
    for row in map(json.loads, file.read_text().splitlines()):
        if "filter" in row:
            kept = row["before"] if row["veto"] else row["after"]
            of = groups[row["snr_db"], row["filter"]].setdefault(row["seed"], [])
            of.append((row["before"], row["after"], kept, bool(row["veto"])))
    for (snr_db, name), seeds in sorted(groups.items(), key=lambda item: (-item[0][0], item[0][1])):
        means = np.array([np.mean(of, axis=0) for of in seeds.values()])
        line = {"snr_db": snr_db, "filter": name, "seeds": len(means), "refused": round(float(means[:, 3].mean()), 2)}
        for place, what in enumerate(("before", "after", "with_veto")):
            line[what] = round(float(means[:, place].mean()), 3)
        for place, what in ((1, "change"), (2, "change_with_veto")):
            change = means[:, place] - means[:, 0]
            error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else float("nan")
            line[what] = [round(float(change.mean()), 3), round(error, 3)]
        print(json.dumps(line))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--levels", type=float, nargs="*", default=[10.0, 5.0, 0.0, -5.0])
    parser.add_argument("--filters", nargs="*", default=list(FILTERS))
    parser.add_argument("--sum", type=Path)
    arguments = parser.parse_args()
    if arguments.sum is not None:
        summary(arguments.sum)
        return
    folder = Path(arguments.model)
    if not folder.is_dir():
        folder = Path(importlib.import_module(arguments.model).get_model_path())
    recogniser = Recogniser(folder, Transcribe(threads=1))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    measure(recogniser, arguments.levels, seeds, arguments.filters)


if __name__ == "__main__":
    main()

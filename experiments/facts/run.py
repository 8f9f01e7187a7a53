"""Measures the playground's judge of facts against the oracle, attacks on it, and the gate's verdicts by it.

    python experiments/facts/run.py [--clips 300] [--wheels 60] [--seed 1] [--candidates 0 1 2 3 4]

A model's text of a scene has each of nine facts wrong with a chance, in one of the playground's wordings. The oracle
knows which; the judge (engine `grammar`, by the bundled prompts) sees that text and a person's. The person keeps the
wording of the text that was shown and puts its facts right. Verdicts are the gate's own on 60 anchors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from annotators import Request, Sampling, build, prompt_file
from flywheel import kinds
from flywheel.core.config import Gate
from flywheel.metrics import token_f1
from flywheel.metrics.facts import ClipFacts, Fact
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import grammar, noise, scenes
from flywheel.playground.paraphrase import paraphrase
from flywheel.rounds.gate import Candidate, judge
from flywheel.rounds.measures import FactsBeside

_ANCHORS = 60
_FACTS, _VERDICTS = (load_prompt(prompt_file(name, Path())) for name in ("facts", "verdicts"))
_ENGINE = build("grammar")
_VALUES: Mapping[str, tuple[str, ...]] = {
    "size": grammar.SIZES,
    "colour": grammar.COLOURS,
    "shape": grammar.SHAPES,
    "motion": grammar.MOTIONS,
    "sound": grammar.SOUNDS,
}
#: A scene's facts by name (``0.colour``, ``sound``).
Facts = dict[str, str]


def facts_of(scene: scenes.Scene) -> Facts:
    found = {f"{n}.{name}": value for n, thing in enumerate(scene.things) for name, value in thing.values().items()}
    return {**found, "sound": scene.sound}


def wrong(facts: Facts, name: str, rng: np.random.Generator) -> str:
    others = [value for value in _VALUES[name.split(".")[-1]] if value != facts[name]]
    return str(rng.choice(others))


def text(facts: Facts, wording: int) -> str:
    """These facts in a wording; one number gives one form and one choice of synonyms."""
    objects = [{name: facts[f"{n}.{name}"] for name in grammar.ATTRIBUTES} for n in (0, 1)]
    return paraphrase(objects, facts["sound"], np.random.default_rng([wording, 7]))


def said(truth: Facts, right: float, rng: np.random.Generator) -> Facts:
    return {name: value if rng.random() < right else wrong(truth, name, rng) for name, value in truth.items()}


def asked(prompt: str, schema: str, kind: str) -> dict:
    [result] = _ENGINE.generate([Request(key="k", clip=None, prompt=prompt)], Sampling(max_new_tokens=1, schema=schema))
    return json.loads(kinds.read(kind, result.text).payload if kind else result.text)


def judged(clip: str, one: str, other: str, *, read: bool = True) -> ClipFacts:
    """The judge's facts of both texts, each in the light of the other; without ``read`` its JSON is taken as it is."""
    sides = []
    for mine, theirs in ((one, other), (other, one)):
        found = asked(_FACTS.render(Evidence(text=mine)), _FACTS.schema_text, "facts" if read else "")["facts"]
        verdicts = {}
        if found:
            listed = json.dumps([fact["fact"] for fact in found])
            prompt = _VERDICTS.render(Evidence(text=theirs, facts=listed))
            replied = asked(prompt, _VERDICTS.schema_text, "verdicts" if read else "")
            verdicts = {v["number"]: v["verdict"] for v in replied["verdicts"]}
        sides.append(tuple(Fact(**fact, verdict=verdicts[n]) for n, fact in enumerate(found, 1)))
    return ClipFacts(clip_id=clip, video=clip, words=len(one.split()), said=sides[0], wanted=sides[1])


def agreement(count: int, seed: int) -> dict:
    """The judge against the oracle, clip by clip, and token F1 beside it."""
    rng = np.random.default_rng([seed, 1])
    rows = []
    for n in range(count):
        truth = facts_of(scenes.sample_scene(10_000 * seed + n))
        model = said(truth, float(rng.uniform(0.3, 1)), rng)
        one, other = text(model, 2 * n), text(truth, 2 * n + 1)
        found = judged(str(n), one, other)
        right = sum(model[name] == value for name, value in truth.items()) / len(truth)
        rows.append((right, found.precision or 0.0, found.recall or 0.0, token_f1(one, other)))
    oracle, precision, recall, overlap = np.array(rows).T
    return {
        "study": "agreement",
        "clips": count,
        "oracle_mean": float(oracle.mean()),
        **{
            f"{name}_{what}": float(value)
            for name, values in (("precision", precision), ("recall", recall), ("token_f1", overlap))
            for what, value in (("mean", values.mean()), ("spearman", spearmanr(oracle, values).statistic))
        },
    }


def invented(rng: np.random.Generator) -> tuple[str, int]:
    """A thing that is not there, and its number of facts."""
    size, colour, shape, motion = (str(rng.choice(_VALUES[name])) for name in grammar.ATTRIBUTES)
    return f"A {size} {colour} {shape} {motion}.", len(grammar.ATTRIBUTES)


def attacks(count: int, seed: int) -> Iterable[dict]:
    """What longer texts gain: mean change of the judge's and the oracle's scores."""
    rng = np.random.default_rng([seed, 2])
    changes: dict[str, list[tuple[float, ...]]] = {}
    for n in range(count):
        truth = facts_of(scenes.sample_scene(20_000 * seed + n))
        model = said(truth, 0.75, rng)
        plain, other = text(model, 2 * n), text(truth, 2 * n + 1)
        right = sum(model[name] == value for name, value in truth.items())
        before = judged(str(n), plain, other)
        filler = " ".join(f"{str(rng.choice(grammar.CHATTER)).capitalize()}." for _ in range(8))
        scene, another = scenes.sample_scene(20_000 * seed + n), scenes.sample_scene(20_000 * seed + n + 7000)
        kind = str(rng.choice(["clean", *noise.KINDS]))
        transcript = noise.noisy_transcript(scene, another, kind, rng, text_of=lambda s: s.paraphrase(3))
        variants = {"filler": (f"{plain} {filler}", 0), "repeated": (f"{plain} {plain} {plain}", 0)}
        variants["transcript"] = (f"{plain} {transcript}", -1)
        more, told = plain, 0
        for things in (1, 2, 3):
            sentence, facts = invented(rng)
            more, told = f"{more} {sentence}", told + facts
            variants[f"{things} invented"] = (more, told)
        for name, (longer, extra) in variants.items():
            after = judged(str(n), longer, other)
            oracle = right / (9 + extra) - right / 9 if extra >= 0 else np.nan
            row = ((after.precision or 0) - (before.precision or 0), (after.recall or 0) - (before.recall or 0))
            length = len(longer.split()) / len(plain.split())
            changes.setdefault(name, []).append((*row, after.f1 - before.f1, oracle, length))
    for name, rows in changes.items():
        mean = np.array(rows).mean(axis=0)
        names = ("precision", "recall", "f1", "oracle_precision", "length")
        yield {
            "study": "attack",
            "attack": name,
            "clips": count,
            **dict(zip(names, map(float, mean), strict=True)),
            "slope": float(mean[0] / mean[3]) if "invented" in name else None,
            "error_f1": float(np.array(rows)[:, 2].std(ddof=1) / np.sqrt(count)),
        }


def candidate_facts(truth: Facts, champion: Facts, fixes: float, breaks: float, rng: np.random.Generator) -> Facts:
    """A next model's facts: some of the champion's wrong ones put right, some of its right ones lost."""
    found = {}
    for name, value in champion.items():
        is_right = value == truth[name]
        change = rng.random() < (breaks if is_right else fixes)
        found[name] = (wrong(truth, name, rng) if is_right else truth[name]) if change else value
    return found


def wheel(rng: np.random.Generator, fixes: float, breaks: float, own_words: bool, pads: int) -> dict[str, str]:
    """The verdicts on one candidate, by each measure alone; ``pads`` is how many things it invents in each text."""
    after, before, choices, facts_after, facts_before = [], [], [], [], []
    for anchor in range(_ANCHORS):
        truth = facts_of(scenes.sample_scene(int(rng.integers(1 << 40))))
        champion = said(truth, 0.8, rng)
        candidate = candidate_facts(truth, champion, fixes, breaks, rng)
        wording, other = int(rng.integers(1 << 31)), int(rng.integers(1 << 31))
        shown, edited = text(champion, wording), text(truth, wording)
        new = text(candidate, other if own_words else wording)
        new = " ".join([new, *(invented(rng)[0] for _ in range(pads))])
        before.append(token_f1(shown, edited))
        after.append(token_f1(new, edited))
        facts_before.append(judged(str(anchor), shown, edited, read=False))
        facts_after.append(judged(str(anchor), new, edited, read=False))
        more = sum(candidate[name] == v for name, v in truth.items()) - sum(
            champion[name] == v for name, v in truth.items()
        )
        choices.append(0.5 + 0.5 * float(np.sign(more)))
    tested = Candidate(
        after=after,
        before=before,
        groups=list(range(_ANCHORS)),
        refiners=frozenset({"p"}),
        choices=choices,
        choosers=frozenset({"p"}),
        facts=FactsBeside.of(facts_after, facts_before),
    )
    return {
        name: judge(tested, Gate(measures=(name,)), 1, resamples=200).verdict
        for name in ("facts", "preference", "token_f1")
    }


_CANDIDATES = (
    ("better by .04, breaks nothing", 0.2, 0.0, True, 0),
    ("better by .04, breaks one for two it mends", 0.4, 0.05, True, 0),
    ("equal", 0.2, 0.05, True, 0),
    ("worse by .04 in the champion's words", 0.0, 0.05, False, 0),
    ("better by .04, invents one thing a text", 0.2, 0.0, True, 1),
)


def verdicts(count: int, seed: int, places: Iterable[int]) -> Iterable[dict]:
    """Shares of verdicts of candidates better, equal and worse in facts, in their own words or the champion's."""
    for name, fixes, breaks, own_words, pads in (_CANDIDATES[place] for place in places):
        rng = np.random.default_rng([seed, 3])
        found = [wheel(rng, fixes, breaks, own_words, pads) for _ in range(count)]
        for measure in ("facts", "preference", "token_f1"):
            said_of = [verdict[measure] for verdict in found]
            shares = {verdict: said_of.count(verdict) / count for verdict in ("promoted", "refused", "undecided")}
            yield {"study": "gate", "candidate": name, "measure": measure, "wheels": count, **shares}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--wheels", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--candidates", type=int, nargs="*", default=range(len(_CANDIDATES)), help="by their place")
    given = parser.parse_args()
    if given.clips:
        print(json.dumps(agreement(given.clips, given.seed)), flush=True)
        for row in attacks(given.clips, given.seed):
            print(json.dumps(row), flush=True)
    for row in verdicts(given.wheels, given.seed, given.candidates):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

"""Questions about held-out playground videos, answered from what each round's model says of them.

    python -m experiments.wheel_qa.run --out OUT --seeds 71 72 73 [--quick] [--wheel FOLDER] [--no-once]

Runs the demo once per seed (or takes one that is there). Of each test clip seven questions with four options are asked,
whose keys are known: colour, shape and motion of both things, and the sound. The reader (engine `grammar`, by the
bundled prompt `answers`) sees a text alone: that of M_0 to M_n, of the base pretrained once on the transcripts with the
same settings, and the transcript itself. Nobody looks: the option that train transcripts name most often.

One JSON line per seed and text: accuracy over clips with its 95 % interval, the share that was not answered, and how
far the last round is ahead, paired by clip.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotators import Request, Sampling, build, prompt_file
from experiments.wheel_controls.run import transcripts
from flywheel import kinds
from flywheel.core.types import MEASURE, content_id
from flywheel.demo import FULL, QUICK, Oracle, run_demo
from flywheel.metrics import mean_estimate, paired_difference
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import grammar
from flywheel.playground.reading import facts_of
from flywheel.store import Workspace

_PROMPT = load_prompt(prompt_file("answers", Path()))
_READER = build("grammar")
_VALUES: Mapping[str, tuple[str, ...]] = {
    "colour": grammar.COLOURS,
    "shape": grammar.SHAPES,
    "motion": grammar.MOTIONS,
    "sound": grammar.SOUNDS,
}
_LETTERS = "ABCD"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its options and the right one's letter; ``fact`` is what it asks for, as ``0.colour``."""

    fact: str
    words: str
    options: tuple[str, ...]
    key: str


def questions_of(file: str, facts: Mapping[str, str], seed: int) -> list[Question]:
    """The seven questions about a video whose facts are known: options and their order by a seed and the file alone."""
    rng = np.random.default_rng([seed, int(content_id(file)[:8], 16)])
    made = []
    for fact, value in sorted(facts.items()):
        thing, _, name = fact.rpartition(".")
        if name not in _VALUES:
            continue
        others = [str(v) for v in rng.permutation([v for v in _VALUES[name] if v != value])[:3]]
        place = int(rng.integers(4))
        options = (*others[:place], value, *others[place:])
        words = f"What is the {name} of thing {int(thing) + 1}?" if thing else "Which sound is heard?"
        made.append(Question(fact=fact, words=words, options=options, key=_LETTERS[place]))
    return made


def answered(text: str, questions: Sequence[Question]) -> list[str]:
    """The reader's letters, ``none`` where the text does not tell."""
    if not text:
        return ["none"] * len(questions)
    listed = [
        {"question": q.words, "options": dict(zip(_LETTERS, q.options, strict=True)), "number": n}
        for n, q in enumerate(questions, 1)
    ]
    prompt = _PROMPT.render(Evidence(text=text, facts=json.dumps(listed)))
    asked = Request(key="k", clip=None, prompt=prompt)
    [result] = _READER.generate([asked], Sampling(max_new_tokens=1, schema=_PROMPT.schema_text))
    answers = json.loads(kinds.read("answers", result.text, schema=_PROMPT.schema_text).payload)["answers"]
    return [answer["answer"] for answer in sorted(answers, key=lambda answer: int(answer["number"]))]


@dataclass(kw_only=True)
class Answers:
    """By clip: the share of its questions that were answered rightly, and that were not answered."""

    right: list[float]
    unanswered: list[float]


def asked_of(texts: Mapping[str, str], questions: Mapping[str, list[Question]]) -> Answers:
    found = Answers(right=[], unanswered=[])
    for clip_id, of_clip in questions.items():
        letters = answered(" ".join(texts.get(clip_id, "").split()), of_clip)
        found.right.append(float(np.mean([a == q.key for a, q in zip(letters, of_clip, strict=True)])))
        found.unanswered.append(letters.count("none") / len(letters))
    return found


def by_prior(questions: Mapping[str, list[Question]], said: Sequence[str]) -> Answers:
    """Answers of somebody who sees nothing: the option that these texts state most often."""
    counts = Counter(fact for text in said for fact in facts_of(text))

    def is_right(question: Question) -> bool:
        likeliest = max(question.options, key=lambda option: counts[f"{question.fact}={option}"])
        return likeliest == question.options[_LETTERS.index(question.key)]

    right = [float(np.mean([is_right(question) for question in of_clip])) for of_clip in questions.values()]
    return Answers(right=right, unanswered=[0.0] * len(right))


def texts_of(workspace: Workspace, round: int) -> dict[str, str]:
    """M_round's texts of test clips, by clip."""
    return dict(workspace.annotations(round=round, purpose=MEASURE).select("clip_id", "text").iter_rows())


def rows_of(wheel: Path, out: Path, seed: int, *, once: bool) -> Iterator[dict[str, Any]]:
    workspace, oracle = Workspace.open(wheel), wheel / "oracle.parquet"
    slots = dict(pl.read_parquet(oracle).select("file", "slots").iter_rows())
    clips = workspace.clips("test").sort("id")
    questions = {
        clip_id: questions_of(Path(uri).name, dict(s.split("=", 1) for s in slots[Path(uri).name]), seed)
        for clip_id, uri in clips.select("id", "uri").iter_rows()
    }
    learned = workspace.clips("train")["transcript"].to_list()
    found = {"nobody looks": by_prior(questions, learned)}
    found["transcripts"] = asked_of(dict(clips.select("id", "transcript").iter_rows()), questions)
    done = (round for round in workspace.rounds() if workspace.stage(round, "evaluate")[0] == "done")
    rounds = [round for round in dict.fromkeys((0, *done)) if texts_of(workspace, round)]
    found |= {f"M{round}": asked_of(texts_of(workspace, round), questions) for round in rounds}
    if once:
        folder = out / f"once-{seed}"
        transcripts(wheel, folder, Oracle(oracle))
        found["once on transcripts"] = asked_of(texts_of(Workspace.open(folder), 1), questions)
    last = found[f"M{rounds[-1]}"]
    for name, answers in found.items():
        yield {
            "seed": seed,
            "text": name,
            "clips": len(questions),
            "questions": sum(map(len, questions.values())),
            "accuracy": asdict(mean_estimate(answers.right)),
            "unanswered": float(np.mean(answers.unanswered)),
            "last_ahead": asdict(paired_difference(last.right, answers.right)),
        }


def main() -> None:
    """Run or take the wheels, and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[71, 72, 73])
    parser.add_argument("--quick", action="store_true", help="the demo's quick size: 200 clips, two rounds")
    parser.add_argument("--wheel", type=Path, help="a demo's folder, of the one seed")
    parser.add_argument("--no-once", action="store_true", help="leave out the model that is trained once")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        wheel = arguments.wheel or arguments.out / f"wheel-{seed}"
        if arguments.wheel is None:
            run_demo(wheel, seed=seed, noise=0.5, size=QUICK if arguments.quick else FULL)
        for row in rows_of(wheel, arguments.out, seed, once=not arguments.no_once):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

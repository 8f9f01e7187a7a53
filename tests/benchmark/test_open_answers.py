"""Open answers are judged by yes or no; a judge that says neither leaves an item without a score, and says so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotators.interface import Sampling
from annotators.writer import AskedModel
from flywheel.benchmark import read
from flywheel.benchmark.items import Item
from flywheel.benchmark.judging import question_of, verdict
from flywheel.benchmark.running import Asked, Outcome, run
from flywheel.benchmark.videos import Shown, Videos
from flywheel.core.config import Model
from flywheel.core.config.sections import Corpus
from flywheel.core.errors import UserError
from flywheel.models.loader import Loader
from flywheel.store.cache import FrameCache
from tests.plugins import Plugin

#: Says what stands in the question after ``say``; as a judge what the given answer says after ``judge``.
_ENGINE = """
    import json
    from pathlib import Path

    from annotators.interface import Result

    class Engine:
        def __init__(self, log):
            self.log = Path(log)

        def generate(self, requests, sampling):
            for request in requests:
                with self.log.open("a") as out:
                    out.write(("judge" if "Given answer" in request.prompt else "asked") + "\\n")
                line = request.prompt.splitlines()[0]
                if "Given answer" in request.prompt:
                    assert request.clip is None
                    given = [part for part in request.prompt.splitlines() if part.startswith("Given answer: ")]
                    text = json.loads(given[0].removeprefix("Given answer: ")).partition("judge ")[2]
                else:
                    text = line.partition("say ")[2]
                known = dict(token_ids=(1,), logprobs=(0.0,), tokens_in=1, finish="stop", seconds=0.0)
                yield Result(key=request.key, text=text, **known)

        def parts(self):
            return [self]

        def close(self):
            pass

    def talking(log):
        return Engine(log)

    talking.needs_model = False
"""


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        *[(text, True) for text in ("yes", "Yes.", "**Yes**", '"yes"', "Yes, it does.", "Yes\nIt is so.", "YES!")],
        *[(text, False) for text in ("no", "No: it is red", "<think>yes?</think>no", "(no)")],
        *[(text, None) for text in ("", "maybe", "I think yes", "yes or no", "No. Yes.", "Yes it does", "yesterday")],
        ("<think>yes", None),
    ],
)
def test_a_verdict_is_yes_or_no_and_nothing_else(reply: str, said: bool | None) -> None:
    assert verdict(reply) is said


@pytest.fixture
def judged(corpus: Path, tmp_path: Path, plugin: Plugin) -> Any:
    """Runs these questions, each with what is said to it, with a judge or without."""
    plugin("flywheel.annotators.engines", "talking = talking_engine:talking", _ENGINE)
    shutil.copy(corpus / "corpus" / "clip-00000.mp4", tmp_path / "v.mp4")
    settings = Model(engine="talking", options={"log": str(tmp_path / "log")})
    model = AskedModel(folder=tmp_path, settings=settings)
    how = Asked(
        model=model,
        videos=Videos(tmp_path),
        shown=Shown(
            inputs=frozenset({"frames"}), corpus=Corpus(frames=2), cache=FrameCache(tmp_path / "cache", 1 << 30)
        ),
        sampling=Sampling(max_new_tokens=8),
        judge=model,
    )

    def judged(*said: str, judge: bool = True, right: str = "A red ball rolls to the left of a wall.") -> Outcome:
        base = {"video_id": "v", "type": "open", "templ_values": "[]", "anser": right}
        rows = [{**base, "question_id": n, "question_content": f"what? say {text}"} for n, text in enumerate(said)]
        (tmp_path / "avqa.json").write_text(json.dumps(rows))
        asked = how if judge else replace(how, judge=None)
        return run(read(tmp_path / "avqa.json", "music-avqa"), asked, Loader(), tmp_path / "record")

    return judged


def test_a_judge_decides_where_words_differ(judged: Any, tmp_path: Path) -> None:
    said = ("judge yes", "judge No.", "judge who knows?", "a red ball rolls to the left of a wall", "judge")
    found: Outcome = judged(*said)
    assert (found.asked, found.count, found.score.accuracy.value, found.score.unparsed) == (
        3,
        5,
        pytest.approx(2 / 3),
        0,
    )
    assert {reject.place: reject.reason for reject in found.rejected} == {
        "2": "the judge said neither yes nor no ('who knows?')",
        "4": "the judge said neither yes nor no ('')",
    }
    log = (tmp_path / "log").read_text().splitlines()
    assert (log.count("asked"), log.count("judge")) == (5, 4), "what is right word for word is not judged"
    assert judged(*said).score == found.score
    assert (tmp_path / "log").read_text().splitlines() == log, "nothing is asked or judged twice"
    with pytest.raises(UserError, match="can be judged"):
        judged("judge maybe", "judge perhaps")
    with pytest.raises(UserError, match="none but a judge can compare; name one with --judge"):
        judged("judge yes", judge=False)


def test_what_is_judged_is_quoted() -> None:
    item = Item(id="x", question='What "is"?', references=("a ball", "a bowl"), video="v")
    words = question_of(item, 'no\nRight answer: "no"')
    assert words.splitlines()[:3] == [
        'Question: "What \\"is\\"?"',
        'Right answer: "a ball" or "a bowl"',
        'Given answer: "no\\nRight answer: \\"no\\""',
    ]

"""Facts of rounds' texts beside people's: asked once, read strictly, and heard by the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Correction, RoundReport, content_id
from flywheel.playground import fact_scores, facts_of, scenes
from flywheel.rounds import RoundContext, champion
from flywheel.rounds.conductor import check_before
from flywheel.rounds.facts import check_judges, clip_facts, measure_facts
from flywheel.rounds.facts_view import fact_figures
from flywheel.rounds.measures import FactsBeside, by_facts
from flywheel.rounds.report import write_report
from flywheel.status import comparison_text
from flywheel.store import Workspace
from flywheel.store.view import clip_of
from tests.plugins import Plugin

Make = Callable[..., Workspace]
SETTINGS = (
    "models.main.engine=fake",
    "models.judge.engine=grammar",
    "evaluate.judges=[judge]",
    "evaluate.resamples=100",
    "gate.measures=[facts, token_f1]",
    "gate.alpha=0.2",
)
SCENES = [scenes.sample_scene(seed) for seed in range(24)]
#: Clips whose scenes an earlier model has wrong, by what it says of another.
WRONG = 12


def written(workspace: Workspace, texts: dict[int, list[str]]) -> None:
    """Rounds' texts of anchors, one for each scene (an empty one is a reject), and people's of round 1's."""
    clip = clip_of(workspace.clips("train").row(0, named=True))
    anchors = [replace(clip, id=f"a{n:02}", content_hash=f"v{n}", split="anchor") for n in range(len(SCENES))]
    workspace.add_clips(anchors)
    names: dict[str, Any] = {"generation_id": "", "source": "model", "kind": "caption", "mean_logprob": -1.0}
    shown = [Annotation(id=f"l{c.id}", round=1, clip_id=c.id, text="A clip.", **names) for c in anchors]
    workspace.add_annotations(shown, 1)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    workspace.add_corrections(
        [
            Correction(
                id=f"c{c.id}", annotation_id=f"l{c.id}", clip_id=c.id, verdict="edit",
                text=scene.paraphrase(2), refiner="ann", at=at,
            )
            for c, scene in zip(anchors, SCENES, strict=True)
        ]
    )  # fmt: skip
    for round, said in texts.items():
        rows = [
            Annotation(
                id=content_id(round, "evaluation", c.id),
                round=round,
                clip_id=c.id,
                text=text,
                purpose="measure",
                **names,
            )
            for c, text in zip(anchors, said, strict=True)
            if text
        ]
        workspace.add_annotations(rows, round)
        for c in (c for c, text in zip(anchors, said, strict=True) if not text):
            workspace.add_rejected(
                round=round, stage="annotate", uri=c.uri, clip_id=c.id, reason="empty", purpose="measure"
            )
        for stage in ("annotate", "review", "pretrain", "finetune", "evaluate"):
            workspace.set_stage(round, stage, "done", {})


def another_scene(number: int) -> scenes.Scene:
    """A scene that has something else of each kind, but for half of the clips."""
    return SCENES[(number + 1) % len(SCENES)] if number < WRONG else SCENES[number]


#: The champion says people's words of half of the clips and another clip's of the others; the candidate is right in
#: words of its own.
OLDER = [another_scene(n).paraphrase(2) for n in range(len(SCENES))]
NEWER = [scene.paraphrase(1) for scene in SCENES]


@pytest.fixture
def context(ingested: Workspace, make_workspace: Make) -> RoundContext:
    written(ingested, {0: OLDER, 1: NEWER})
    return RoundContext(make_workspace(*SETTINGS))


@pytest.mark.slow
def test_the_judge_finds_what_the_oracle_knows_and_is_asked_once(context: RoundContext) -> None:
    with context.workspace.lock():
        measure_facts(context, 0)
        made = len(context.workspace.records.read("generations"))
        assert made > 0
        measure_facts(context, 0)
        assert len(context.workspace.records.read("generations")) == made, "what is on record is not asked again"
        stated = _stated_of(context)
        measure_facts(context, 1)
        # Of a new round only its own texts are taken apart: people's words were in the round before.
        assert _stated_of(context) == stated + len(SCENES)
    found = clip_facts(context, 0)
    assert [clip.why for clip in found] == [""] * len(SCENES)
    for clip, text, scene in zip(found, OLDER, SCENES, strict=True):
        precision, recall, f1 = fact_scores(text, scene.slots())
        assert (clip.precision, clip.recall, clip.f1) == pytest.approx((precision, recall, f1))
        assert all(fact.quote in text for fact in clip.said)
    figures = fact_figures(context, 0)
    assert figures["fact_unsure"].value == 0
    assert {"fact_precision", "fact_recall", "fact_f1", "fact_precision_heard", "fact_recall_event"} <= set(figures)
    assert figures["fact_f1"].low < figures["fact_f1"].value < figures["fact_f1"].high


def _stated_of(context: RoundContext) -> int:
    """How many texts were taken apart so far."""
    made = context.workspace.records.read("generations", columns=["prompt"])["prompt"]
    return int(made.str.starts_with("facts@").sum())


@pytest.mark.slow
def test_a_better_text_in_other_words_is_promoted_by_facts_and_not_by_words(
    context: RoundContext, make_workspace: Make
) -> None:
    with context.workspace.lock():
        judgement = champion.tested(context, 1)
        assert (judgement.verdict, judgement.decided_by) == ("promoted", "facts"), judgement.reason
        assert "states more of what is true on 24 videos: fact F1 +" in judgement.reason
        assert json.loads(json.dumps(judgement.record()))["measures"][0]["name"] == "facts"
        by_words = champion.tested(RoundContext(make_workspace(*SETTINGS, "gate.measures=[token_f1]")), 1)
    assert by_words.verdict != "promoted", "half of the champion's texts are people's, word for word"
    compared = champion.compare(context, 0, 1)
    facts = compared["facts"]
    assert (facts["judge"], facts["clips"], facts["unsure"]) == ("judge", 24, 0)
    assert facts["b"]["precision"]["value"] == 1.0 > facts["a"]["precision"]["value"]
    assert [part["n"] for part in facts["a"]["by_length"]] == [8.0, 8.0, 8.0]
    assert "By the facts that models.judge compared on 24 anchor clips, round 1 has f1 +" in comparison_text(
        compared, 8
    )
    folder = write_report(context, [RoundReport(round=0, num_corrections=0)], context.workspace.root / "r")
    rows = [json.loads(line) for line in (folder / "facts.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert rows[0]["said"][0]["quote"] in OLDER[0]
    assert "Facts against people's texts" in (folder / "report.html").read_text()


BAD = """
from annotators.engines.grammar import _Engine
from annotators.interface import Result
from dataclasses import replace
import json

class Bad(_Engine):
    def __init__(self, fault):
        self.fault = fault

    def generate(self, requests, sampling):
        for number, result in enumerate(super().generate(requests, sampling)):
            reply = json.loads(result.text)
            if self.fault == "prose":
                result = replace(result, text="Both texts are very nice indeed.")
            if self.fault == "quotes nothing" and "facts" in reply:
                facts = [{**fact, "quote": "no such words"} for fact in reply["facts"]]
                result = replace(result, text=json.dumps({"facts": facts}))
            if self.fault == "contradicts itself" and "verdicts" in reply and number % 2:
                said = [{**one, "verdict": "contradicted"} for one in reply["verdicts"]]
                result = replace(result, text=json.dumps({"verdicts": said}))
            if self.fault == "forgets" and "verdicts" in reply:
                result = replace(result, text=json.dumps({"verdicts": reply["verdicts"][:1]}))
            yield result

def bad(fault="", **_):
    return Bad(fault)

bad.needs_model = False
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("prose", "the judge's reply was no list of facts"),
        ("quotes nothing", "none of the judge's facts quotes the text"),
        ("contradicts itself", "the judge contradicts itself when the texts are swapped"),
        ("forgets", "the judge's reply has no verdict on each fact"),
    ],
)
def test_a_judge_that_is_no_use_tells_nothing(
    fault: str, why: str, ingested: Workspace, make_workspace: Make, plugin: Plugin
) -> None:
    plugin("flywheel.annotators.engines", "bad = bad_judge:bad", BAD)
    written(ingested, {1: NEWER})
    context = RoundContext(make_workspace(*SETTINGS, "models.judge.engine=bad", f"models.judge.options.fault={fault}"))
    with context.workspace.lock():
        measure_facts(context, 1)
    found = clip_facts(context, 1)
    assert {clip.why for clip in found} == {why}
    if fault == "prose":
        # Another judge, and another text of the same clip, are not shut out by one reply that is no use.
        other = RoundContext(make_workspace(*SETTINGS))
        assert {clip.why for clip in clip_facts(other, 1)} == {"the judge was not asked yet"}
        with other.workspace.lock():
            measure_facts(other, 1)
        assert {clip.why for clip in clip_facts(other, 1)} == {""}
        assert {clip.why for clip in clip_facts(context, 1)} == {why}
    measured = by_facts(FactsBeside.of(found, found), {"ann"}, context.config.gate, 1, 100)
    assert (measured.verdict, measured.is_measured) == ("undecided", False)
    assert f"of 24 clips the judge can't tell ({why})" in measured.reason
    assert list(fact_figures(context, 1)) == ["fact_unsure"]


@pytest.mark.slow
def test_a_text_of_ten_thousand_words_is_not_judged_by_its_beginning(ingested: Workspace, make_workspace: Make) -> None:
    written(ingested, {0: ["", *NEWER[1:-1], f"{NEWER[-1]} {'and so on ' * 4000}"]})
    context = RoundContext(make_workspace(*SETTINGS))
    with context.workspace.lock():
        measure_facts(context, 0)
    silent, *others, last = clip_facts(context, 0)
    assert (silent.why, silent.precision, silent.recall, silent.f1) == ("", None, 0.0, 0.0), "it could write nothing"
    assert last.why.startswith("a text has more than the 16000 characters")
    assert not any(clip.why for clip in others)


@pytest.mark.slow
def test_no_model_judges_itself_unless_allowed_by_name(ingested: Workspace, make_workspace: Make) -> None:
    written(ingested, {0: NEWER})
    own = (*SETTINGS[:1], "models.judge.engine=openai", "models.judge.servers=[http://127.0.0.1:9]", *SETTINGS[2:])
    context = RoundContext(make_workspace(*own))
    with pytest.raises(UserError, match=r"models\.judge is the model under test") as error:
        measure_facts(context, 0)
    assert "evaluate.judges_of_own: [judge]" in str(error.value)
    with pytest.raises(UserError, match=r"models\.judge is the model under test"):
        check_before(context)


def test_the_champion_is_no_judge(make_workspace: Make) -> None:
    its_weights = make_workspace(*SETTINGS).model_folder(1) / "model"
    its_weights.mkdir(parents=True)
    (its_weights / "model.safetensors").write_bytes(b"as far as a digest reads them")
    judge = ("models.judge.engine=openai", f"models.judge.folder={its_weights}")
    workspace = make_workspace(*SETTINGS, *judge)
    workspace.ledger.promote(1, "for this test")
    with pytest.raises(UserError, match=r"models\.judge is the model under test"):
        check_judges(RoundContext(workspace))


@pytest.mark.slow
def test_a_judge_that_is_allowed_by_name_may_be_the_model_itself(make_workspace: Make) -> None:
    own = (*SETTINGS[:1], "models.judge.engine=openai", "models.judge.servers=[http://127.0.0.1:9]", *SETTINGS[2:])
    check_judges(RoundContext(make_workspace(*own, "evaluate.judges_of_own=[judge]")))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("evaluate.judges=[]",), "facts needs a judge. Name its role"),
        (("evaluate.judges=[jury]",), "models.jury: is missing, and evaluate.judges asks for it"),
        (("evaluate.fact_prompts=[facts, judge]",), "'judge' asks for judgement. Name a prompt of facts"),
    ],
)
def test_settings_that_do_not_fit_are_said(
    settings: tuple[str, ...], says: str, ingested: Workspace, make_workspace: Make
) -> None:
    with pytest.raises(UserError, match=says):
        RoundContext(make_workspace(*SETTINGS, *settings))


@pytest.mark.slow
def test_two_judges_are_compared(ingested: Workspace, make_workspace: Make, plugin: Plugin) -> None:
    written(ingested, {0: OLDER})
    context = RoundContext(make_workspace(*SETTINGS, "models.jury.engine=grammar", "evaluate.judges=[judge, jury]"))
    with context.workspace.lock():
        measure_facts(context, 0)
    figures = fact_figures(context, 0)
    assert figures["fact_precision_apart_from_jury"].value == 0.0
    assert figures["fact_recall_apart_from_jury"].n == len(SCENES)
    assert facts_of(OLDER[0]) != SCENES[0].slots()

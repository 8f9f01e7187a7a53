"""Questions answered from rounds' captions alone: asked once, read strictly, and heard by the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydantic import ValidationError
from test_facts import written

from annotators.engines import grammar
from flywheel import kinds
from flywheel.core.config import parse_config
from flywheel.core.config.sections import Gate
from flywheel.core.errors import UserError
from flywheel.core.types import content_id
from flywheel.kinds import Unusable
from flywheel.playground import scenes
from flywheel.rounds import RoundContext, champion
from flywheel.rounds.qa import check_questions, clip_answers, measure_answers, questions_record
from flywheel.rounds.qa_measure import AnswersBeside, ClipAnswers, answer_figures, by_questions
from flywheel.rounds.qa_questions import ELSEWHERE, PART, REJECTED, UNREAD
from flywheel.status import comparison_text
from flywheel.store import Workspace
from flywheel.store.view import annotation_of

Make = Callable[..., Workspace]
SETTINGS = (
    "models.main.engine=fake",
    "models.reader.engine=grammar",
    "evaluate.questions=bench/items.jsonl",
    "evaluate.resamples=100",
    "gate.measures=[qa, token_f1]",
    "gate.alpha=0.2",
)
SCENES = [scenes.sample_scene(seed) for seed in range(24)]


def answered(n: int, right: int, asked: int = 4, unanswered: int = 0, why: str = "") -> ClipAnswers:
    return ClipAnswers(clip_id=f"c{n}", video=f"v{n}", asked=asked, right=right, unanswered=unanswered, why=why)


def test_more_right_answers_promote_fewer_refuse_and_what_is_not_answered_is_not_right() -> None:
    settings = Gate(measures=("qa", "token_f1"))
    good, poor = [answered(n, 3 + n % 2) for n in range(30)], [answered(n, 1 + n % 3) for n in range(30)]
    assert by_questions(AnswersBeside.of(good, poor), settings, 1, 200).verdict == "promoted"
    assert by_questions(AnswersBeside.of(poor, good), settings, 1, 200).verdict == "refused"
    few = by_questions(AnswersBeside.of(good[:5], poor[:5]), settings, 1, 200)
    assert (few.verdict, few.is_measured) == ("undecided", False)
    untold = [*good[:20], *(answered(n, 0, why="prose") for n in range(20, 30))]
    found = by_questions(AnswersBeside.of(untold, poor), settings, 1, 200)
    assert (found.is_measured, found.verdict) == (False, "undecided")
    assert "of 10 clips it can't be told (prose)" in found.reason
    figures = answer_figures([answered(n, 2, unanswered=1) for n in range(9)], 100)
    assert (figures["qa_accuracy"].value, figures["qa_unanswered"].value) == (0.5, 0.25)
    assert answer_figures([answered(1, 0, why="prose")], 100) == {}
    # Of all questions, not of clips: 1 of 1 and 1 of 9 are 2 of 10.
    uneven = answer_figures([answered(1, 1, asked=1), answered(2, 1, asked=9, unanswered=3)], 100)["qa_accuracy"]
    assert (uneven.value, uneven.n) == (pytest.approx(0.2), 10)
    assert (uneven.low, uneven.high) == (pytest.approx(1 / 9), 1.0)


def test_answers_are_read_strictly() -> None:
    read = kinds.read("answers", '{"answers": [{"number": 2, "answer": "none"}, {"number": 1, "answer": "B"}]}')
    assert json.loads(read.payload)["answers"][1] == {"number": 1, "answer": "B"}
    for reply in (
        "The first is B.",
        '{"answers": [{"number": 1, "answer": "blue"}]}',
        '{"answers": [{"number": 1, "answer": "A"}, {"number": 1, "answer": "B"}]}',
        '{"answers": []}',
    ):
        with pytest.raises(Unusable):
            kinds.read("answers", reply)


def test_the_measure_needs_questions_and_a_reader() -> None:
    with pytest.raises((ValidationError, UserError), match=r"qa needs questions. Name their file"):
        parse_config({"gate": {"measures": ["qa"]}})
    with pytest.raises((ValidationError, UserError), match=r"models.reader is missing"):
        parse_config({"evaluate": {"questions": "bench"}})


def question_file(context: RoundContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about each scene: two colours, and the sound."""
    folder = context.workspace.root / "bench"
    (folder / "videos").mkdir(parents=True)
    rows = []
    for n, scene in enumerate(SCENES):
        true = {fact.split("=")[0]: fact.split("=")[1] for fact in scene.slots()}
        for name, words in (
            ("0.colour", "What is the colour of thing 1?"),
            ("1.colour", "What is the colour of thing 2?"),
            ("sound", "Which sound is heard?"),
        ):
            others = sorted({f.split("=")[1] for s in SCENES for f in s.slots() if f.startswith(f"{name}=")})
            options = [true[name], *(value for value in others if value != true[name])][:4]
            options = options[n % len(options) :] + options[: n % len(options)]
            rows.append(
                {
                    "id": f"{n}-{name}",
                    "question": words,
                    "video": f"v{n}.mp4",
                    "options": options,
                    "answer": "ABCD"[options.index(true[name])],
                    "needs": ["frames"],
                }
            )
        (folder / "videos" / f"v{n}.mp4").write_bytes(b"")
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The clips of this workspace are rows without files; theirs are named by their contents.
    monkeypatch.setattr("flywheel.rounds.qa_questions.file_hash", lambda file: file.stem)
    lasts_s = next(iter(context.split("anchor"))).end_s
    monkeypatch.setattr("flywheel.rounds.qa_questions._duration_s", lambda file, _: lasts_s)


@pytest.fixture
def context(ingested: Workspace, make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> RoundContext:
    """A champion that says another clip's words of half of the clips, and a candidate that is right in other words."""
    older = [(SCENES[(n + 1) % 24] if n < 12 else scene).paraphrase(2) for n, scene in enumerate(SCENES)]
    written(ingested, {0: older, 1: [scene.paraphrase(1) for scene in SCENES]})
    context = RoundContext(make_workspace(*SETTINGS))
    question_file(context, monkeypatch)
    return context


@pytest.mark.slow
def test_the_reader_answers_what_captions_state_and_is_asked_once(context: RoundContext) -> None:
    w = context.workspace
    check_questions(context)
    assert {clip.why for clip in clip_answers(context, 1)} == {"the reader was not asked yet"}
    with w.lock():
        measure_answers(context, 1)
        made = len(w.records.read("generations"))
        measure_answers(context, 1)
        assert len(w.records.read("generations")) == made == 24
        measure_answers(context, 0)
    right = clip_answers(context, 1)
    assert [(clip.asked, clip.right, clip.unanswered) for clip in right] == [(3, 3, 0)] * 24
    facts = [scene.slots() for scene in SCENES]
    wanted = [
        sum(f in facts[(n + 1) % 24] for f in facts[n] if "colour" in f or "sound" in f) if n < 12 else 3
        for n in range(24)
    ]
    older = clip_answers(context, 0)
    assert [clip.right for clip in older] == wanted
    assert sum(clip.unanswered for clip in older) > 0, "a sound that is no option of the clip"


@pytest.mark.slow
def test_the_gate_promotes_by_questions_what_word_overlap_does_not(context: RoundContext) -> None:
    with context.workspace.lock():
        judgement = champion.tested(context, 1)
        assert (judgement.verdict, judgement.decided_by) == ("promoted", "qa"), judgement.reason
        assert "more can be answered from its captions on 24 videos" in judgement.reason
        assert champion.tested(context, 1).look == judgement.look, "the same answers are one look"
    compared = champion.compare(context, 0, 1)
    qa = compared["qa"]
    assert (qa["clips"], qa["questions"], qa["b"]["accuracy"]["value"]) == (24, 72, 1.0)
    assert qa["accuracy"]["difference"]["value"] == pytest.approx(1 - qa["a"]["accuracy"]["value"])
    assert "of 72 questions were answered rightly" in comparison_text(json.loads(json.dumps(compared)), 8)


@pytest.mark.slow
def test_a_clip_without_caption_answers_nothing_and_prose_tells_nothing(
    context: RoundContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = context.workspace
    w.add_rejected(round=2, stage="annotate", uri="", clip_id="a00", reason="empty", purpose="measure")
    first = w.annotations(round=1, purpose="measure").filter(clip_id="a01").row(0, named=True)
    w.add_annotations([replace(annotation_of(first), id=content_id("two"), round=2)], 2)
    monkeypatch.setattr("annotators.engines.grammar._reply", lambda given: {"said": "blue"})
    with w.lock():
        measure_answers(context, 2)
    found = {clip.clip_id: clip for clip in clip_answers(context, 2)}
    assert (found["a00"].asked, found["a00"].right, found["a00"].unanswered) == (3, 0, 3)
    assert found["a01"].why == "the reader's reply has no answer to each question"


@pytest.mark.slow
def test_questions_about_no_anchor_are_told_before_a_round(context: RoundContext) -> None:
    (context.workspace.root / "bench" / "videos" / "v0.mp4").rename(context.workspace.root / "v0.mp4")
    for file in (context.workspace.root / "bench" / "videos").glob("*.mp4"):
        file.unlink()
    with pytest.raises(UserError, match=r"evaluate.questions: none is about a clip of the anchor split"):
        check_questions(context)


@pytest.mark.slow
def test_a_clip_with_many_questions_is_asked_in_lots(context: RoundContext, monkeypatch: pytest.MonkeyPatch) -> None:
    w = context.workspace
    monkeypatch.setattr("flywheel.rounds.qa._MOST", 2)
    with w.lock():
        measure_answers(context, 1)
    assert len(w.records.read("generations")) == 48, "two questions, then the third"
    assert [(clip.asked, clip.right, clip.unanswered) for clip in clip_answers(context, 1)] == [(3, 3, 0)] * 24
    answered_by_rules = grammar._reply
    monkeypatch.setattr(
        "annotators.engines.grammar._reply",
        lambda given: answered_by_rules(given) if len(given["QUESTIONS"]) == 2 else {"said": "blue"},
    )
    with w.lock():
        measure_answers(context, 0)
    whys = {clip.why for clip in clip_answers(context, 0)}
    assert whys == {"the reader's reply has no answer to each question"}, "of one lot of two nothing can be told"


@pytest.mark.slow
def test_what_is_not_asked_is_counted_by_its_reason(
    context: RoundContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = context.workspace.root / "bench"
    assert questions_record(context) == {"asked": 72}
    check_questions(context)
    assert "not asked" not in capsys.readouterr().err
    (folder / "videos" / "v0.mp4").unlink()
    (folder / "videos" / "v1.mp4").rename(folder / "videos" / "other.mp4")
    lines = (folder / "items.jsonl").read_text().replace('"v1.mp4"', '"other.mp4"')
    (folder / "items.jsonl").write_text(lines + json.dumps({"id": "broken"}) + "\n")
    lasts_s = context.clips["a02"].end_s
    monkeypatch.setattr(
        "flywheel.rounds.qa_questions._duration_s", lambda file, _: lasts_s * (2 if file.stem == "v2" else 1)
    )
    left_out = {UNREAD: 3, ELSEWHERE: 3, PART: 3, REJECTED: 1}
    assert questions_record(context) == {"asked": 63, **left_out}, "a part of a video has no questions about all of it"
    check_questions(context)
    assert f"63 questions about 21 anchor clips; not asked: {REJECTED}: 1, {UNREAD}: 3" in capsys.readouterr().err

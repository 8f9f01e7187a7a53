"""The contract of kinds: what every one of them keeps, and what none lets through."""

from __future__ import annotations

import json
import math

import pytest

from flywheel import kinds
from flywheel.core.types import CRITERIA, Cue
from flywheel.kinds import BrokenReply, read

REPLIES = {
    "caption": " A man  enters. ",
    "dense_caption": """
        {"cues": [{"start_s": 1.5, "end_s": 3, "text": "a bell"}, {"start_s": 0, "end_s": 1, "text": "A"}]}
    """,
    "qa": '{"pairs": [{"question": "Who?", "answer": "A man."}]}',
    "tags": '{"tags": ["Dog", "bell ", "dog"]}',
    "seen": """
        {"scene": "A yard", "objects": "none", "layout": "", "writing": "", "mood": "calm.",
         "events": [{"start_s": 1, "end_s": "0:02", "text": "a ball drops"}, {"start_s": 0, "end_s": 1, "text": "A"}]}
    """,
    "facts": json.dumps(
        {"facts": [{"fact": "A dog barks", "quote": "the dog  barks", "modality": "heard", "aspect": "event"}]}
    ),
    "answers": '{"answers": [{"number": 2, "answer": "none"}, {"number": 1, "answer": "B"}]}',
    "verdicts": '{"verdicts": [{"number": 2, "verdict": "open"}, {"number": 1, "verdict": "supported"}]}',
    "fused": '{"sentences": [{"text": "A dog barks", "by": "both"}, {"text": "It  rains.", "by": "heard"}]}',
    "consistency": '{"edits": [{"quote": "a dog", "instead": " ", "reason": "It is  none."}]}',
    "redundancy": '{"repeats": [{"quote": "a  dog", "of": 2}]}',
    "narrative": '{"parts": [{"first": 1, "last": 2, "text": "A  dog."}, {"first": 3, "last": 3, "text": "Rain."}]}',
    "heard": '{"speech": "", "environment": "N/A", "timbre": null, "mood": "", "events": []}',
    "judgement": json.dumps(
        {
            **{name: {"reason": f"Of {name}.", "score": number} for number, name in enumerate(CRITERIA)},
            "seen_and_heard": ["ball"],
            "heard_unseen": [],
            "seen_silent": [" a  bell"],
        }
    ),
}


def test_every_kind_has_a_reply_here() -> None:
    assert sorted(REPLIES) == kinds.names()


@pytest.mark.parametrize("name", sorted(REPLIES))
def test_words_are_the_payloads_and_an_unchanged_edit_changes_nothing(name: str) -> None:
    kind = kinds.get(name)
    reply = read(name, REPLIES[name], duration_s=3.0)
    if not kind.schema_key:
        assert (reply.text, reply.payload, kind.check) == ("A man enters.", "", None)
        return
    payload = json.loads(reply.payload)
    assert kind.schema_key in payload
    assert kind.words(payload) == reply.text
    assert kind.check is not None
    assert kind.check(payload, 3.0, str.strip) == payload


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("dense_caption", {"cues": [{"start_s": 0, "end_s": 9, "text": "a"}]}, r"got \[0, 9\)"),
        ("dense_caption", {"cues": [{"start_s": 10**400, "end_s": 9, "text": "a"}]}, "holds no cues"),
        ("dense_caption", {"cues": [{"start_s": 0, "end_s": 1, "text": " "}]}, "says nothing"),
        ("dense_caption", {"words": []}, "holds no cues"),
        ("dense_caption", 7, "holds no cues"),
        ("qa", {"pairs": [{"question": "Who?", "answer": " "}]}, "needs a question and an answer"),
        ("qa", {"pairs": [{"question": "Who?"}]}, "holds no pairs"),
        ("qa", {"pairs": []}, "needs a question and an answer"),
        ("heard", {"events": []}, "holds no events"),
        ("judgement", {}, "score 'temporal' is missing"),
        ("facts", {"facts": [{"fact": "a"}]}, "holds no facts"),
        ("facts", {"facts": [{"fact": "a", "quote": "a", "modality": "felt", "aspect": "event"}]}, "not 'felt'"),
        ("fused", {"sentences": [{"text": "a", "by": "smelt"}]}, "not 'smelt'"),
        ("fused", {"sentences": []}, "no sentence"),
        ("fused", {"text": "a"}, "holds no sentences"),
        ("consistency", {"edits": [{"quote": "a"}]}, "holds no edits"),
        ("redundancy", {"repeats": 3}, "holds no repeats"),
        ("narrative", {"parts": []}, "no part"),
        ("narrative", {"parts": [{"first": 2, "last": 1, "text": "a"}]}, "ends before it begins"),
        ("narrative", {"parts": [{"first": n, "last": 2, "text": "a"} for n in (1, 2)]}, "out of order, or overlap"),
        ("narrative", {}, "holds no parts"),
        ("verdicts", {"verdicts": []}, "each once, not of"),
        ("answers", {"answers": []}, "each once, not to"),
        ("answers", {"answers": [{"number": 1, "answer": "blue"}]}, "not 'blue' to 1"),
        ("answers", {"answers": 3}, "holds no answers"),
        ("verdicts", {"verdicts": [{"number": 2, "verdict": "open"}]}, "facts 1, 2, 3, each once, not of 2"),
        ("verdicts", {"verdicts": [{"number": 1, "verdict": "maybe"}]}, "not 'maybe' on 1"),
        ("verdicts", {"verdicts": 3}, "holds no verdicts"),
        ("tags", {"tags": ["a", " "]}, "needs a word"),
        ("tags", {"tags": [3]}, "holds no tags"),
        ("tags", {"tags": None}, "holds no tags"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(name: str, payload: object, reason: str) -> None:
    check = kinds.get(name).check
    assert check is not None
    with pytest.raises(ValueError, match=reason):
        check(payload, 3.0, str.strip)


def test_an_edit_is_cleaned_text_by_text() -> None:
    """What may not be in a text may not be in a part of one."""

    def no_bells(text: str) -> str:
        if "bell" in text:
            raise ValueError("no bells")
        return text.strip()

    for name in ("dense_caption", "qa", "tags"):
        payload = json.loads(read(name, REPLIES[name].replace("A man.", "A bell.")).payload)
        check = kinds.get(name).check
        assert check is not None
        with pytest.raises(ValueError, match="no bells"):
            check(payload, math.inf, no_bells)


@pytest.mark.parametrize(
    "text",
    [
        '{"cues": [{"start_s": "soon", "end_s": 2, "text": "a bell"}]}',
        '{"cues": [{"start_s": 1' + "0" * 400 + ', "end_s": 2, "text": "a bell"}]}',
        '{"cues": [{"start_s": NaN, "end_s": 2, "text": "a bell"}]}',
        '{"cues": [{"start_s": null, "end_s": 2, "text": "a bell"}]}',
        '{"cues": [{"start_s": 1, "end_s": 2, "text": 3}]}',
        '{"cues": "a bell"}',
    ],
)
def test_no_reply_of_a_model_ends_the_run(text: str) -> None:
    with pytest.raises(BrokenReply):
        read("dense_caption", text, duration_s=3.0)


def test_cues_of_a_dense_caption_are_in_the_order_of_time() -> None:
    kind = kinds.get("dense_caption")
    assert kind.cues is not None
    payload = json.loads(read("dense_caption", REPLIES["dense_caption"]).payload)
    assert kind.cues(payload) == (Cue(start_s=0, end_s=1, text="A"), Cue(start_s=1.5, end_s=3, text="a bell"))


def test_a_description_may_be_of_nothing() -> None:
    """Silence is a finding, and models have many words for an empty part."""
    assert read("heard", REPLIES["heard"]).text == "Nothing is heard."
    seen = read("seen", REPLIES["seen"], duration_s=3.0)
    assert seen.text == "A yard. calm. A. a ball drops."
    hint = kinds.get("seen").hint
    assert hint is not None
    assert hint(json.loads(seen.payload)) == "events: [0.0-1.0] A; [1.0-2.0] a ball drops. scene: A yard. mood: calm."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"causal": {"reason": "x y", "score": 11}}, "causal: a score is a whole number from 0 to 10, not '11'"),
        ({"causal": {"reason": "x y", "score": -1}}, "causal: a score"),
        ({"causal": {"reason": "x y", "score": 7.5}}, "causal: a score"),
        ({"causal": {"reason": "x y", "score": True}}, "causal: a score"),
        ({"causal": {"reason": "x y", "score": "7"}}, "causal: a score"),
        ({"causal": None}, "no judgement"),
        ({"visibility": {"score": 3}}, "no judgement"),
        ({"verdict": "keep"}, "a judgement has no 'verdict'"),
        ({"heard_unseen": "a bell"}, "heard_unseen is no list"),
    ],
)
def test_a_judgement_of_another_form_is_broken(change: dict[str, object], reason: str) -> None:
    value = {**json.loads(REPLIES["judgement"]), **change}
    with pytest.raises(BrokenReply, match=reason):
        read("judgement", json.dumps(value))
    four = {name: part for name, part in value.items() if name not in ("contextual", *change)}
    with pytest.raises(BrokenReply, match="the score 'contextual' is missing"):
        read("judgement", json.dumps(four))

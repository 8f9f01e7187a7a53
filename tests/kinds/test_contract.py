"""The contract of kinds: what every one of them keeps, and what none lets through."""

from __future__ import annotations

import json
import math

import pytest

from flywheel import kinds
from flywheel.core.types import Cue
from flywheel.kinds import BrokenReply, read

REPLIES = {
    "caption": " A man  enters. ",
    "dense_caption": """
        {"cues": [{"start_s": 1.5, "end_s": 3, "text": "a bell"}, {"start_s": 0, "end_s": 1, "text": "A"}]}
    """,
    "qa": '{"pairs": [{"question": "Who?", "answer": "A man."}]}',
    "tags": '{"tags": ["Dog", "bell ", "dog"]}',
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
    assert list(payload) == [kind.schema_key]
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

"""Reading replies: what is kept of each kind, and the reason for what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotators import prompt_file
from flywheel.kinds import BrokenReply, Unusable, read
from flywheel.models.prompt import load_prompt


def test_what_a_reply_says() -> None:
    cues = r"""{"cues": [
        {"start_s": 1.5, "end_s": 3.3, "text": " a bell\n rings"}, {"start_s": 0, "end_s": 1.5, "text": "A man enters."}
    ]}"""
    dense = read("dense_caption", cues, duration_s=3.2)
    assert dense.text == "A man enters. a bell rings"
    assert json.loads(dense.payload) == {
        "cues": [
            {"start_s": 0.0, "end_s": 1.5, "text": "A man enters."},
            {"start_s": 1.5, "end_s": 3.2, "text": "a bell rings"},
        ]
    }
    qa = read("qa", '```json\n{"pairs": [{"question": "Who?", "answer": "A man."}]}\n```')
    assert (qa.text, json.loads(qa.payload)) == ("Who? A man.", {"pairs": [{"question": "Who?", "answer": "A man."}]})
    tags = read("tags", '{"tags": ["Dog", "bell ", "dog"]}')
    assert (tags.text, json.loads(tags.payload)) == ("dog, bell", {"tags": ["dog", "bell"]})
    assert read("caption", " A man  enters. ").payload == ""


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("tags", "a dog and a bell", "not JSON"),
        ("tags", '{"tags": "dog"', "not JSON"),
        ("tags", '{"tags": [3]}', "tags.0.*3 is not of type 'string'"),
        ("tags", '{"words": ["dog"]}', "the reply breaks its schema"),
        ("qa", "[]", "is not of type 'object'"),
        ("dense_caption", '{"cues": []}', "non-empty"),
        (
            "dense_caption",
            '{"cues": [{"start_s": 9.0, "end_s": 14.0, "text": "a bell"}]}',
            r"need 0 <= .* <= 11.75, got \[9, 14\)",
        ),
        ("dense_caption", '{"cues": [{"start_s": 3, "end_s": 2, "text": "a bell"}]}', r"got \[3, 2\)"),
        ("dense_caption", '{"cues": [{"start_s": 11.8, "end_s": 11.9, "text": "a bell"}]}', "begins at the clip's end"),
    ],
)
def test_a_broken_reply_has_its_reason(kind: str, text: str, reason: str) -> None:
    schema = load_prompt(prompt_file(kind, Path())).schema_text
    with pytest.raises(BrokenReply, match=reason.replace("tags.0", r"tags\[0\]")):
        read(kind, text, schema=schema, duration_s=11.75)


def test_an_empty_reply_says_nothing() -> None:
    for text in (" ", '{"tags": [" "]}'):
        with pytest.raises(Unusable, match="wrote nothing"):
            read("tags", text)


def test_a_structure_without_its_schema_is_still_checked() -> None:
    for kind, text in (("qa", '{"pairs": [{"question": "Who?"}]}'), ("tags", '{"tags": [3]}'), ("dense_caption", "7")):
        with pytest.raises(BrokenReply, match=f"is no {kind}"):
            read(kind, text)

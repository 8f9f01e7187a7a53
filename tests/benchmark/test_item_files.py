"""Each reader on a small file in its benchmark's fields (made here), and on rows that can't be asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.benchmark import read, readers
from flywheel.benchmark.items import BOTH, Group, Item
from flywheel.core.errors import UserError

_MC = {"a0": "a dog", "a1": "a cat", "a2": "a cow", "a3": "2", "a4": "a hen"}
_FOUR = ["A. a dog", "B. a cat", "C. a cow", "D. a hen"]
_BARE = ("a dog", "a cat", "a cow", "a hen")
_EIGHT = "\n".join(f"{letter}. it is {letter.lower()}" for letter in "ABCDEFGH")

#: Of each format: its file's name, a good row, what is right of it, and a change that makes it one that can't be asked,
#: with the reason.
_CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "next-qa": (
        "test.csv",
        {"video": "41", "question": "what is seen", "answer": 3, "qid": 7, "type": "CW", **_MC},
        # The option is the word 2; the key is a place.
        {"id": "41_7", "key": 3, "type": "CW", "options": ("a dog", "a cat", "a cow", "2", "a hen")},
        {"answer": 5},
        "the key '5' is no option (there are A to E)",
    ),
    "next-gqa": (
        "test.csv",
        {"video_id": "41", "question": "what is seen", "answer": "a cow", "qid": 7, "type": "TN", **_MC},
        {"key": 2, "evidence_s": ((1.0, 2.5),), "duration_s": 9.0, "length": "0-60 s"},
        {"a1": "A dog."},
        "options A and B are the same ('A dog.')",
    ),
    "video-mme": (
        "test.parquet",
        {"question_id": "001-1", "videoID": "x1", "duration": "short", "task_type": "Counting"}
        | {"question": "what is seen", "options": _FOUR, "answer": "B"},
        {"id": "001-1", "video": "x1", "key": 1, "options": _BARE, "length": "short", "type": "Counting"},
        {"answer": "E"},
        "the key 'E' is no option (there are A to D)",
    ),
    "video-mme-v2": (
        "test.parquet",
        {"video_id": "1", "question_id": "1-1", "question": "what is seen", "options": _EIGHT, "answer": "H"}
        | {"group_type": "logic", "group_structure": "[1, [2, 3], 4]", "level": 2, "second_head": "Time"},
        {"key": 7, "group": Group(id="1", kind="logic", steps=((0,), (1, 2), (3,)), place=0), "type": "Time"},
        {"group_structure": "[1, 2]"},
        "group_structure '[1, 2]' is unknown",
    ),
    "mvbench": (
        "action_order.json",
        {"video": "1.mp4", "question": "what is seen", "candidates": list(_BARE), "answer": "a cow"}
        | {"start": 1.5, "end": 4},
        {"key": 2, "type": "action_order", "span_s": (1.5, 4.0)},
        {"start": 4, "end": 1},
        "the part of the video is no span (4 to 1)",
    ),
    "worldsense": (
        "WorldSense.tsv",
        {"index": 3, "video_path": "./v/1.mp4", "duration": "short", "task_type": "Counting"}
        | {"question": "what is heard", "candidates": str(_FOUR), "answer": "D"},
        {"id": "3", "key": 3, "options": _BARE, "needs": BOTH, "length": "short"},
        {"candidates": str(["A. a dog"])},
        "has 1 options; 2 to 10 are needed",
    ),
    "daily-omni": (
        "qa.json",
        {"Question": "what is heard", "Choice": _FOUR, "Answer": "C", "video_id": "v1", "Type": "Event Sequence"}
        | {"video_duration": "30s"},
        {"video": "v1", "key": 2, "type": "Event Sequence", "needs": BOTH, "length": "30s"},
        {"video_id": None},
        "has no video",
    ),
    "omnivideobench": (
        "data.json",
        {"video": "v1.mp4", "duration": "01:30"}
        | {"questions": [{"question": "what is heard", "question_type": "causal", "options": _FOUR}]},
        {"key": 1, "type": "causal", "duration_s": 90.0, "length": "60-180 s", "needs": frozenset({"sound"})},
        {"duration": "soon"},
        "duration 'soon' is no time",
    ),
    "av-odyssey": (
        "part1.parquet",
        {"question_id": "t_1", "question": "which is louder", "options": _FOUR, "answer": "A"}
        | {"subfield": "Loudness", "audio_path": ["1.wav", "2.wav"], "image_path": [], "video_path": None},
        {"sounds": ("1.wav", "2.wav"), "key": 0, "type": "Loudness", "needs": BOTH},
        {"audio_path": []},
        "has no video",
    ),
    "omnibench": (
        "data.jsonl",
        {"index": 5, "task type": "Action", "question": "what is heard", "options": list(_BARE), "answer": "a hen"}
        | {"audio_path": "1.mp3", "image_path": "1.jpg"},
        {"images": ("1.jpg",), "sounds": ("1.mp3",), "key": 3, "type": "Action"},
        {"answer": ["a hen", "a cow"]},
        "has 2 right options; one is needed",
    ),
    "avqa": (
        "val_qa.json",
        {"id": 9, "video_name": "v_1", "question_text": "what is heard", "multi_choice": list(_BARE), "answer": 1}
        | {"question_relation": "Sound", "question_type": "Which"},
        {"id": "9", "key": 1, "needs": frozenset({"sound"}), "type": "Which"},
        {"multi_choice": list("abcdefghijk")},
        "has 11 options; 2 to 10 are needed",
    ),
    "music-avqa": (
        "avqa-test.json",
        {"question_id": 4, "video_id": "0001", "question_content": "Is the <Object> louder?", "anser": "yes"}
        | {"type": '["Audio", "Comparative"]', "templ_values": '["left cello"]'},
        {"question": "Is the left cello louder?", "references": ("yes",), "type": "Audio / Comparative"}
        | {"needs": frozenset({"sound"})},
        {"templ_values": "[]"},
        "templ_values holds nothing for <Object>",
    ),
    "dream-1k": (
        "DREAM-1k.jsonl",
        {"idx": 2, "task": "video/caption", "extra_info": {"duration": 8.0, "events": ["a dog runs"]}}
        | {
            "messages": [
                {"role": "user", "content": [{"type": "video", "video": {"video_file": "v/2.mp4"}}]},
                {"role": "assistant", "content": [{"type": "text", "reference": "A dog runs."}]},
            ]
        },
        {"video": "v/2.mp4", "question": "Describe the video in detail.", "references": ("A dog runs.",)},
        {"messages": "none"},
        "messages is no list",
    ),
    "omni-cloze": (
        "omni_cloze.jsonl",
        {"uuid": 1, "video_path": "./videos/1.mp4", "cloze": "A [1] barks."}
        | {"blanks": [{"options": list(_BARE), "answer": "A"}]},
        {"id": "1#0", "question": "A [1] barks.", "key": 0, "needs": BOTH},
        {"blanks": []},
        "holds no list of blanks with options and answers",
    ),
    "flywheel": (
        "items.jsonl",
        {"id": "t:1", "video": "t.mp4", "question": "what?", "options": list(_BARE), "answer": "D", "type": "av"}
        | {"needs": ["frames", "sound"], "duration_s": 25.6, "licence": "Apache-2.0"},
        {"id": "t:1", "key": 3, "needs": BOTH, "duration_s": 25.6, "licence": "Apache-2.0"},
        {"duration_s": -1},
        "duration '-1' is no time",
    ),
    "captionqa": (
        "questions.json",
        {"id": "1.jpg"}
        | {"questions": [{"question": "what is seen", "choices": list(_BARE), "answer": "a cat", "category": "x"}]},
        {"id": "1.jpg#0", "images": ("1.jpg",), "key": 1, "type": "x"},
        {"questions": [{"question": "<img src=x>", "choices": list(_BARE), "answer": "a cat"}]},
        "question holds HTML that is no text (<img>)",
    ),
    "msrvtt-qa": (
        "test_qa.json",
        {"id": 1, "video_id": 7010, "question": "what is a man doing?", "answer": "sing", "category_id": 3},
        {"video": "video7010", "references": ("sing",), "type": "what", "is_open": True},
        {"answer": None},
        "has no answer",
    ),
}


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    if file.suffix == ".parquet":
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(file)
    elif file.suffix in (".csv", ".tsv"):
        pl.DataFrame(rows).write_csv(file, separator="\t" if file.suffix == ".tsv" else ",")
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(json.dumps(list(rows)))


def test_each_format_has_a_case() -> None:
    assert sorted(_CASES) == readers.names()


@pytest.mark.parametrize("format", sorted(_CASES))
def test_a_benchmarks_file_is_read_and_what_cant_be_asked_is_rejected(format: str, tmp_path: Path) -> None:
    name, row, expected, change, reason = _CASES[format]
    if format == "omnivideobench":
        row["questions"][0] |= {"correct_option": "B", "reasoning_steps": [{"modality": "audio", "evidence": "x"}]}
    if format == "next-gqa":
        grounds = {"41": {"duration": 9, "location": {"7": [[1, 2.5]]}}}
        (tmp_path / "gsub_test.json").write_text(json.dumps(grounds))
    if format in ("next-qa", "next-gqa"):
        (tmp_path / "map_vid_vidorID.json").write_text('{"41": "1101/41"}')
        expected = {**expected, "video": "1101/41"}
    _write(tmp_path / name, [row, {**row, **change}])
    found = read(tmp_path, format)
    assert found.count == 2
    (item,), (rejected,) = found.items, found.rejected
    assert {name: getattr(item, name) for name in expected} == expected
    assert (rejected.place, rejected.reason) == (f"{name}:2", reason)


@pytest.mark.parametrize("format", sorted(_CASES))
def test_a_file_of_another_kind_is_the_users_to_mend(format: str, tmp_path: Path) -> None:
    name = _CASES[format][0]
    _write(tmp_path / name, [{"other": 1, "columns": "x"}])
    with pytest.raises(UserError, match=rf"{name}: (is no file of|has none of the columns)"):
        read(tmp_path / name, format)
    (tmp_path / name).write_bytes(b'{"torn": ')
    with pytest.raises(UserError, match=name):
        read(tmp_path, format)


def test_worldsenses_published_file_has_its_questions_below_their_videos(tmp_path: Path) -> None:
    base = {"question": "what is heard", "candidates": _FOUR, "answer": "D", "task_type": "Counting"}
    about = {
        "video_id": "v1",
        "video_duration": "75s",
        "duration": "1-2min",
        "domain": "Music",
        "audio_class": ["Event"],
    }
    tasks = {"task0": base, "task1": {**base, "question": "what is seen", "answer": "E"}, "task2": "none"}
    (tmp_path / "worldsense_qa.json").write_text(json.dumps({"v1": {**about, **tasks}, "v2": {**about, "task0": base}}))
    found = read(tmp_path, "worldsense")
    assert [(item.video, item.key, item.duration_s, item.length, item.type) for item in found.items] == [
        ("v1", 3, 75.0, "1-2min", "Counting"),
        ("v2", 3, 75.0, "1-2min", "Counting"),
    ]
    assert {reject.place: reject.reason for reject in found.rejected} == {
        "worldsense_qa.json:2": "the key 'E' is no option (there are A to D)",
        "worldsense_qa.json:3": "has no column question, candidates, answer",
    }


def _one(tmp_path: Path, **changes: Any) -> Item | str:
    """The item of a row of MVBench with these changes, or why it is none."""
    row = {"video": "1.mp4", "question": "what?", "candidates": ["red", "blue"], "answer": "blue"} | changes
    _write(tmp_path / "t.json", [row])
    found = read(tmp_path / "t.json", "mvbench")
    return found.items[0] if found.items else found.rejected[0].reason


def test_bad_items_are_told_apart_from_odd_ones(tmp_path: Path) -> None:
    """Letters, texts and lists are keys; HTML's forms are words; what names nothing, or two things, is rejected."""
    ten = [f"it is {number}" for number in range(10)]
    kept: list[tuple[dict[str, Any], int]] = [
        ({"answer": "B"}, 1),
        ({"answer": "(b)"}, 1),
        ({"answer": ["Blue."]}, 1),
        ({"answer": "B. blue"}, 1),
        ({"candidates": {"B": "blue", "A": "red"}, "answer": "A"}, 0),
        ({"candidates": ten, "answer": "J"}, 9),
        ({"candidates": [2, 3, 1], "answer": 3}, 1),
    ]
    for changes, key in kept:
        item = _one(tmp_path, **changes)
        assert isinstance(item, Item)
        assert item.key == key, changes
    item = _one(tmp_path, question="<p>Is <b>it</b>&nbsp;1 &lt; 2<br/>or not?</p>", candidates=["<i>no</i>", "blue"])
    assert isinstance(item, Item)
    assert (item.question, item.options[0]) == ("Is it 1 < 2 or not?", "no")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"video": ""}, "has no video"),
        ({"question": " "}, "has no question"),
        ({"question": {"text": "what?"}}, "question is a dict, and no text"),
        ({"question": "<table><tr><td>1</td></tr></table>"}, "question holds HTML that is no text (<table>)"),
        ({"candidates": ["red", " Red "], "answer": "red"}, "options A and B are the same ('Red')"),
        ({"candidates": ["red", ""]}, "has no option B"),
        ({"candidates": [*ten, "more"], "answer": "A"}, "has 11 options; 2 to 10 are needed"),
        ({"answer": None}, "has no key"),
        ({"answer": "green"}, "the key 'green' is no option (there are A to B)"),
        ({"answer": ["A", "B"]}, "has 2 right options; one is needed"),
        ({"answer": "A. blue"}, "the key names option A and quotes option B"),
        ({"start": -1, "end": 2}, "the part of the video '-1' is no time"),
    ]
    for changes, reason in refused:
        assert _one(tmp_path, **changes) == reason


def test_a_question_about_two_parts_of_a_video_is_two_items(tmp_path: Path) -> None:
    row = {"video": "1.mp4", "question": "what?", "candidates": ["red", "blue"], "answer": "blue"}
    _write(tmp_path / "t.json", [{**row, "start": 0, "end": 2}, {**row, "start": 2, "end": 4, "answer": "red"}])
    found = read(tmp_path / "t.json", "mvbench")
    assert [(item.span_s, item.key) for item in found.items] == [((0.0, 2.0), 1), ((2.0, 4.0), 0)]


def test_one_broken_file_of_several_is_one_reject(tmp_path: Path) -> None:
    row = {"video": "1.mp4", "question": "what?", "candidates": ["red", "blue"], "answer": "blue"}
    (tmp_path / "json").mkdir()
    _write(tmp_path / "json" / "count.json", [row, row])
    (tmp_path / "json" / "order.json").write_text("[{")
    found = read(tmp_path, "mvbench")
    assert [item.type for item in found.items] == ["count"]
    assert {reject.place: reject.reason.split("(")[0] for reject in found.rejected} == {
        "count.json:2": f"another item has the id '{found.items[0].id}' too",
        "order.json": "Expecting property name enclosed in double quotes at character 2.",
    }
    with pytest.raises(UserError, match="Did you mean 'mvbench'"):
        read(tmp_path, "mvbensh")
    with pytest.raises(UserError, match="holds no item file of AVQA"):
        read(tmp_path, "avqa")


def test_a_packages_reader_is_one_of_the_formats(plugin: Any, tmp_path: Path) -> None:
    code = """
        from flywheel.benchmark.drafts import Draft
        from flywheel.benchmark.readers import Reader

        def drafts(row, file, beside):
            yield Draft(id=row["n"], question=row["q"], video="v", options=["a", "b"], answer="A")

        READER = Reader(title="Ours", source="here", files=("*.jsonl",), fields=("n", "q"), drafts=drafts)
    """
    plugin("flywheel.benchmark.readers", "ours = their_reader:READER", code)
    _write(tmp_path / "x.jsonl", [{"n": 1, "q": "what?"}])
    assert read(tmp_path, "ours").items[0].id == "1"

"""Rows of tables as people have them: which spans, texts and videos they give."""

from __future__ import annotations

from typing import Any

import pytest

from flywheel.ingest.rows import Reading, readings, says_no_video


def given(row: dict[str, Any]) -> list[tuple[float | None, float | None, str | None]]:
    """Span and text of each reading of a row of one video."""
    found = readings({"video": "v.mp4", **row})
    assert not any(one.problem for one in found)
    return [(one.start_s, one.end_s, one.text) for one in found]


@pytest.mark.parametrize(
    ("row", "span"),
    [
        ({"start_s": 1.0, "end_s": 2.5}, (1.0, 2.5)),
        ({"start": "1", "end": 2}, (1.0, 2.0)),
        ({"start_time": "00:00:01.500", "end_time": "1:02"}, (1.5, 62.0)),
        ({"Start Time": "0:01:00,250", "End Time": "2:00:00"}, (60.25, 7200.0)),
        ({"startTime": 1, "endTime": 2}, (1.0, 2.0)),
        ({"start_sec": 1, "end_sec": 2}, (1.0, 2.0)),
        ({"clip_start": 1, "clip_end": 2}, (1.0, 2.0)),
        ({"begin": "1s", "end": "2.5 s"}, (1.0, 2.5)),
        ({"from": 1, "to": "2"}, (1.0, 2.0)),
        ({"start_ms": 1500, "end_ms": "2500"}, (1.5, 2.5)),
        ({"start": "1500ms", "stop": "2500 ms"}, (1.5, 2.5)),
        ({"Start_timestamp": "00:07:33.689", "End_timestamp": "00:07:51.085"}, (453.689, 471.085)),
        ({"start_frame": 30, "end_frame": 60, "fps": 30}, (1.0, 2.0)),
        ({"segment": [1, 2]}, (1.0, 2.0)),
        ({"timestamp": "[1.0, 2.0]"}, (1.0, 2.0)),
        ({"timestamp": "['0:00:01.000', '0:00:08.000']"}, (1.0, 8.0)),
        ({"span": {"start": 1, "end": 2}}, (1.0, 2.0)),
        ({"interval": "00:01 --> 00:02"}, (1.0, 2.0)),
        ({"segment": "1.5-2.5"}, (1.5, 2.5)),
        ({"start": float("nan"), "end": None}, (None, None)),
        # What is no span stays none.
        ({"from": "me", "to": "you"}, (None, None)),
        ({"timestamp": 1714550000}, (None, None)),
        ({"timestamp": "2024-05-01T10:00:00Z"}, (None, None)),
        ({"timestamp": "2024-05"}, (None, None)),
        ({"segments": []}, (None, None)),
        ({"timestamps": [0.5, 1.0, 1.5]}, (None, None)),
    ],
    ids=str,
)
def test_spans_under_their_usual_names(row: dict[str, Any], span: tuple[float | None, float | None]) -> None:
    assert given(row) == [(*span, None)]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"timestamps": [[0, 1], [1, 2]], "sentences": ["a", "a"]}, [(0.0, 1.0, "a"), (1.0, 2.0, "a")]),
        ({"segments": [{"start": 0, "end": 1, "text": "a"}, {"start": "0:01", "end": 2, "caption": "b"}]},
         [(0.0, 1.0, "a"), (1.0, 2.0, "b")]),
        ({"timestamp": "[['0:00:01.000', '0:00:02.000'], ['0:03', '0:00:04.500']]", "caption": "['it\\'s', \"b\"]"},
         [(1.0, 2.0, "it's"), (3.0, 4.5, "b")]),
        ({"start": [0, 1], "end": [1, 2], "text": ["a", "b"]}, [(0.0, 1.0, "a"), (1.0, 2.0, "b")]),
        ({"segment": [1, 2], "sentence": "a"}, [(1.0, 2.0, "a")]),
        ({"timestamps": [[0, 1], [1, 2], [2, 3]], "sentences": ["a", "", ["c", "d"]]},
         [(0.0, 1.0, "a"), (1.0, 2.0, ""), (2.0, 3.0, "c")]),
        ({"timestamps": [[0, 1], [1, 2]], "caption": "all"}, [(0.0, 1.0, "all"), (1.0, 2.0, "all")]),
    ],
    ids=["activitynet", "objects", "panda", "howto", "youcook", "gaps", "one"],
)  # fmt: skip
def test_many_spans_of_one_row_have_a_text_each(row: dict[str, Any], found: list[Any]) -> None:
    assert given(row) == found


@pytest.mark.parametrize(
    ("row", "text", "others"),
    [
        ({"caption": ["a", "b", "b"]}, "a", 1),
        ({"caption_0": "a", "caption_1": "b", "caption_10": "c"}, "a", 2),
        ({"enCap": ["a", "b"], "chCap": ["c"]}, "a", 2),
        ({"text": "a b", "caption": "a  b\n"}, "a b", 0),
        ({"transcript": "a", "caption": "b"}, "a", 1),
        ({"captions": [{"idx": "0", "content": "part"}, {"idx": "-1", "content": "whole"}],
          "timestamp": ["0:00", "0:02"]}, "whole", 1),
        ({"captions": [{"caption": "a"}, {"sentence": "b"}]}, "a", 1),
        ({"caption": {"text": ["a"]}}, "a", 0),
        ({"caption": "[sic] a"}, "[sic] a", 0),
        ({"conversations": [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "<video> A <b>."},
                            {"from": "human", "value": "And?"}, {"from": "gpt", "value": "B."}]}, "A <b>.", 1),
        ({"messages": [{"role": "user", "content": "<video>What?"}, {"role": "assistant", "content": "A."}]}, "A.", 0),
        ({"text": ""}, "", 0),
        ({"text": 7}, "7", 0),
    ],
    ids=str,
)  # fmt: skip
def test_one_text_is_taken_and_the_others_are_counted(row: dict[str, Any], text: str | None, others: int) -> None:
    [one] = readings({"video": "v.mp4", **row})
    assert (one.text, one.others, one.start_s) == (text, others, None)


@pytest.mark.parametrize(
    ("row", "paths"),
    [
        ({"video": "a.mp4"}, ["a.mp4"]),
        ({"Video Path": "a.mp4"}, ["a.mp4"]),
        ({"videos": ["a.mp4", "b.mp4"]}, ["a.mp4", "b.mp4"]),
        ({"video": {"path": "a.mp4", "bytes": None}}, ["a.mp4"]),
        ({"video": [{"path": "a.mp4"}, {"src": "b.mp4"}]}, ["a.mp4", "b.mp4"]),
        ({"video": "https://x/y.mp4", "video_id": "y"}, ["y"]),
        ({"YoutubeID": "y"}, ["y"]),
        ({"videoid": 7, "contentUrl": "https://x/7.mp4", "page_dir": "1_50", "name": "a cat"}, ["1_50/7"]),
        ({"video": "/data/local-files/?d=sub%20dir/a.mp4"}, ["sub dir/a.mp4"]),
        ({"video": "/data/upload/1/0a1b2c3d-a.mp4"}, ["a.mp4"]),
        ({"messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]}, ["a.mp4"]),
    ],
    ids=str,
)  # fmt: skip
def test_videos_of_a_row(row: dict[str, Any], paths: list[str]) -> None:
    assert [one.video.path for one in readings(row)] == paths


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": "a"}, "names no video"),
        ({"url": "https://x/y.mp4"}, "https://x/y.mp4 is an address, and those are not fetched; download it first"),
        ({"video": "v.mp4", "start": "soon"}, "start and end must be seconds"),
        ({"video": "v.mp4", "timestamps": [[0, 1], [1, 2]], "sentences": ["a", "b", "c"]}, "names more than one span"),
        ({"video": "v.mp4", "start_frame": 3}, "start_frame and end_frame need 'fps'; or give start_s and end_s"),
    ],
)
def test_rows_that_say_too_little(row: dict[str, Any], problem: str) -> None:
    [one] = readings(row)
    assert one.problem.startswith(problem)


def test_label_studio_tasks_give_what_people_said_last() -> None:
    def area(text: object) -> list[dict[str, Any]]:
        return [{"from_name": "caption", "type": "textarea", "value": {"text": text}}]

    task = {
        "data": {"video": "v.mp4", "start_s": 1.0, "duration_s": 2.0, "model_text": "m", "fps": 10.0},
        "annotations": [
            {"result": area(["first"]), "updated_at": "2026-01-01"},
            {"result": area("last"), "updated_at": "2026-02-01"},
            {"result": area("no"), "updated_at": "2026-03-01", "was_cancelled": True},
        ],
        "predictions": [{"result": area(["m"])}],
    }
    [one] = readings(task)
    assert (one.text, one.others, one.start_s, one.end_s) == ("last", 1, 1.0, 3.0)
    assert readings({**task, "annotations": []})[0].text == "m"
    small = {"video": "v.mp4", "start_s": 1.0, "duration_s": 2.0, "caption": "said", "annotator": 3}
    assert readings(small) == [Reading(video=one.video, text="said", start_s=1.0, end_s=3.0)]


def test_odd_rows_are_readings_too() -> None:
    deep: Any = {"start": 0}
    for _ in range(500):
        deep = {"segment": deep}
    assert readings({"video": "v.mp4", **deep})[0].start_s is None
    wide = {f"c{number}": number for number in range(20_000)}
    assert readings({**wide, "video": "v.mp4"})[0].video.path == "v.mp4"
    assert readings({7: "x", "video": b"film"})[0].video.content == b"film"  # type: ignore[dict-item]
    assert says_no_video(["id", "text"])
    assert not says_no_video(["YoutubeID", "Caption"])

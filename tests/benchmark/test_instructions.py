"""Conversations to train on: true of the video, with all turns in each format, and of no video that is asked about."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.benchmark.building import clock, named_sound, named_thing, questions
from flywheel.benchmark.instructions import conversations, write_instructions
from flywheel.core.errors import UserError
from flywheel.playground.timeline import _write_truth, long_video, twin_of


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Timelines on record, with other videos in place of the rendered ones."""
    folder = tmp_path_factory.mktemp("timelines")
    (folder / "videos").mkdir()
    own = [long_video(3, number) for number in range(2)]
    videos = [video for made in own for video in (made, twin_of(made))]
    _write_truth(folder / "timelines.parquet", videos)
    for number, video in enumerate(videos[:-1]):
        shutil.copy(corpus / "corpus" / f"clip-{number:05d}.mp4", folder / "videos" / f"{video.name}.mp4")
    return folder


def test_what_a_conversation_says_is_true_of_its_video() -> None:
    video = long_video(5, 2, 3)
    rows = [row for row in questions([video, twin_of(video)], 5) if row["video"] == f"{video.name}.mp4"]
    turns = conversations(video, rows, seed=5)
    assert turns == conversations(video, rows, seed=5)
    assert len(turns) == 5 + 4
    for row, (asked, answered) in zip(rows, turns, strict=False):
        assert asked == row["question"]
        assert answered.rstrip(".").lower() == row["options"]["ABCD".index(row["answer"])].lower()
    told = {
        f"From {clock(s.start_s)} to {clock(s.end_s)} we see {named_thing(s.seen)}, and hear {named_sound(s.heard)}."
        for s in video.shots
    }
    bounds = {clock(s.start_s): n for n, s in enumerate(video.shots)}
    for (asked, answered), (then, after) in zip(turns[5::2], turns[6::2], strict=True):
        said = re.findall(r"From .*?(?:\.\d{3}).*?(?:\.\d{3}).*?\.(?: |\Z)", answered)
        assert {part.strip() for part in said} <= told
        begin, end = re.findall(r"\d\d:\d\d:\d\d\.\d{3}", asked)
        assert len(said) == (bounds.get(end, len(video.shots)) - bounds[begin])
        assert then == "And in the shot after that?"
        assert after in told
        assert after.startswith(f"From {end} ")


def _llava(out: Path) -> list[list[str]]:
    return [[turn["value"] for turn in row["conversations"]] for row in json.loads((out / "data.json").read_text())]


def _sharegpt(out: Path) -> list[list[str]]:
    rows = [json.loads(line) for line in (out / "train.jsonl").open()]
    assert all((out / row["videos"][0]).is_file() for row in rows)
    return [[message["content"] for message in row["messages"]] for row in rows]


def _messages(out: Path) -> list[list[str]]:
    rows = [json.loads(line)["messages"] for line in (out / "train.jsonl").open()]
    assert all((out / row[0]["content"][0]["video"]).is_file() for row in rows)
    return [[message["content"][-1]["text"] for message in row] for row in rows]


@pytest.mark.parametrize(("format", "read"), [("llava", _llava), ("sharegpt", _sharegpt), ("messages", _messages)])
def test_each_format_holds_all_turns(
    folder: Path, tmp_path: Path, format: str, read: Callable[[Path], list[list[str]]]
) -> None:
    made = write_instructions(folder, tmp_path / "out", format=format, seed=1)
    assert (made.conversations, made.turns, made.left_out) == (3, 27, {"its file is not there": 1})
    rows = read(tmp_path / "out")
    assert [len(row) for row in rows] == [18, 18, 18]
    for row in rows:
        marked = [part for part in row if "<video>" in part]
        assert marked == ([] if format == "messages" else row[:1])
        assert row[-2] == "And in the shot after that?"


def test_videos_of_a_benchmark_are_left_out(folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "bench"
    held_out.mkdir()
    (tmp_path / "empty").mkdir()
    first = sorted((folder / "videos").iterdir())[0]
    shutil.copy(first, held_out / "another-name.MKV")
    made = write_instructions(folder, tmp_path / "out", format="messages", held_out=held_out)
    assert made.left_out == {"a benchmark asks about it": 1, "its file is not there": 1}
    assert first.name not in (tmp_path / "out" / "train.jsonl").read_text()
    problems: list[tuple[dict[str, Any], str]] = [
        ({"format": "webvtt"}, "holds no conversations. There are llava, messages, sharegpt"),
        ({"format": "messages", "held_out": tmp_path / "none"}, "there is no such folder"),
        ({"format": "messages", "held_out": tmp_path / "empty"}, "holds no video"),
        ({"format": "messages", "held_out": folder}, "no video is left to ask about"),
    ]
    for arguments, words in problems:
        with pytest.raises(UserError, match=words):
            write_instructions(folder, tmp_path / "more", **arguments)
        assert not (tmp_path / "more").exists()
    with pytest.raises(UserError, match="is there already"):
        write_instructions(folder, tmp_path / "out", format="messages")

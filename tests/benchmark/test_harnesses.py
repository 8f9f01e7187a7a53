"""Benchmarks for other harnesses, read back in the fields that those publish, with answers scored as here."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flywheel.benchmark import read
from flywheel.benchmark.answers import chosen
from flywheel.benchmark.exporters import names
from flywheel.benchmark.exporters._media import NONE, Media
from flywheel.benchmark.exporters._media import _samples as _samples_of
from flywheel.benchmark.exporting import ExportResult, export
from flywheel.benchmark.items import Item
from flywheel.benchmark.prompting import asked
from flywheel.benchmark.videos import Videos
from flywheel.media.audio import read_audio
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from tests.benchmark.test_scores import _LISTED, _OPTIONS
from tests.plugins import Command

_VARIANTS = ("", "_no_visual", "_no_audio", "_text_only", "_swapped_audio", "_gt_none")
_REPLIES = [
    "B",
    "B. a blue cat",
    "<think>A</think>B",
    "A or B",
    "",
    "a blue cat.",
    '{"answer": "B"}',
    _LISTED,
    "E",
    "C",
]


@pytest.fixture(scope="module")
def bench(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of two videos in the format ``flywheel``; one of its items has no video, one is about a part."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "videos").mkdir()
    rows = []
    for number in range(2):
        shutil.copy(corpus / "corpus" / f"clip-{number:05d}.mp4", folder / "videos" / f"v{number}.mp4")
        rows.append({"id": f"q{number}", "video": f"v{number}.mp4", "question": 'Which?\tOr "what"?'})
    rows.append({"id": "q3", "video": "gone.mp4", "question": "Where?"})
    base = {"options": list(_OPTIONS), "answer": "B", "needs": ["frames", "sound"], "type": "av", "licence": "CC0-1.0"}
    (folder / "items.jsonl").write_text("".join(json.dumps({**base, **row}) + "\n" for row in rows))
    return folder


def _export(bench: Path, out: Path, format: str) -> ExportResult:
    made = export(bench, "flywheel", bench / "videos", out, format=format, name="av")
    assert made.tasks == {f"av{variant}": 2 for variant in _VARIANTS}
    # Once for all variants.
    assert [(reject.place, reject.reason.split("'")[1]) for reject in made.rejected] == [("q3", "gone.mp4")]
    return made


@pytest.fixture(scope="module")
def tasks(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark as tasks of lmms-eval."""
    out = tmp_path_factory.mktemp("tasks")
    _export(bench, out, "lmms-eval")
    return out / "av"


class _Functions(yaml.SafeLoader):
    """Reads tasks as lmms-eval does: ``!function utils.f`` is a name here."""


_Functions.add_constructor("!function", lambda loader, node: str(node.value))


def _utils(folder: Path) -> Any:
    """The module of a task, loaded by its path."""
    spec = importlib.util.spec_from_file_location("task_utils", folder / "utils.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _samples(file: Path) -> Any:
    return read_audio(file, 0.0, 2.5)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Modules that a task loads are dropped again."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("answers_of"):
            del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
def test_lmms_evals_tasks_hold_what_it_reads(bench: Path, tasks: Path) -> None:
    folder = tasks
    utils = _utils(folder)
    shown: dict[str, list[dict[str, Any]]] = {}
    for variant in _VARIANTS:
        task = yaml.load((folder / f"av{variant}.yaml").read_text(), _Functions)
        assert (task["task"], task["dataset_path"], task["cluster_key"]) == (f"av{variant}", "json", "video_id")
        assert all(hasattr(utils, task[name].split(".")[1]) for name in task if name.startswith(("doc_to", "process")))
        assert {metric["metric"] for metric in task["metric_list"]} == set(
            utils.results({"options": ["a"], "key": 0}, [])
        )
        rows = [
            json.loads(line) for line in Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
        ]
        assert [row["id"] for row in rows] == ["q0", "q1"]
        shown[variant] = rows
    items = read(bench, "flywheel").items
    for item, row in zip(items, shown[""], strict=False):
        [turn] = utils.messages(row)
        assert [part["type"] for part in turn["content"]] == ["video", "text"]
        assert turn["content"][1]["text"] == utils.text(row) == asked(item)
        for reply in _REPLIES:
            place = chosen(reply, item.options)
            assert utils.results(row, [reply]) == {"accuracy": place == item.key, "unparsed": place == -1}
    own, silent, swapped = (Path(utils.visual(shown[name][0])[0]) for name in ("", "_no_audio", "_swapped_audio"))
    assert [probe(file).has_audio for file in (own, silent, swapped)] == [True, False, True]
    at = [0.1, 0.5]
    for other in (silent, swapped):
        # The pictures are the same, not encoded again.
        np.testing.assert_array_equal(read_frames(own, at), read_frames(other, at))
    sounds = [_samples(bench / "videos" / f"v{number}.mp4") for number in range(2)]
    like = [np.corrcoef(_samples(swapped), sound)[0, 1] for sound in sounds]
    assert int(np.argmax(like)) != 0
    assert max(like) > 0.9
    [heard] = utils.visual(shown["_no_visual"][0])
    assert heard.endswith(".wav")
    assert np.corrcoef(_samples(Path(heard)), sounds[0])[0, 1] > 0.999
    assert utils.visual(shown["_text_only"][0]) == []
    row = shown["_gt_none"][0]
    assert (row["options"][1], row["answer"]) == ("None of the other options", "B")
    assert "a blue cat" not in row["prompt"]


def test_a_tasks_reading_of_answers_needs_none_of_our_packages(tasks: Path) -> None:
    text = "".join(file.read_text() for file in tasks.rglob("*.py"))
    assert "import flywheel" not in text
    assert "from flywheel" not in text
    # -S: no site-packages, so that nothing but Python's own library is there.
    score = "utils.results({'options': ['a', 'b'], 'key': 1}, ['B.'])"
    code = f"import sys; sys.path.insert(0, '.'); import utils; print({score})"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=tasks, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'accuracy': 1.0, 'unparsed': 0.0}"


@pytest.mark.slow
def test_vlmevalkits_table_is_read_back(
    bench: Path, tmp_path: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    _export(bench, tmp_path, "vlmevalkit")
    # Again, by the command: media that are there are kept.
    before = [file.stat().st_mtime_ns for file in sorted((tmp_path / "video").iterdir())]
    assert commandline("benchmark", "export", bench, "--format", "vlmevalkit", "--out", tmp_path, "--name", "av") == 0
    assert [file.stat().st_mtime_ns for file in sorted((tmp_path / "video").iterdir())] == before
    assert "2 items" in capsys.readouterr().out
    own = read(bench, "flywheel").items
    for variant, (seen, heard) in zip(_VARIANTS, ((1, 1), (0, 1), (1, 0), (0, 0), (1, 1), (1, 1)), strict=True):
        with open(tmp_path / f"av{variant}.tsv", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
        assert list(rows[0]) == [
            *("index", "video", "video_path", "duration", "domain", "candidates", "sub_category", "task_type"),
            *("subtitle_path", "question", "answer"),
        ]
        assert [row["index"] for row in rows] == ["0", "1"]
        file = tmp_path / "video" / f"{rows[0]['video']}.mp4"
        assert (tmp_path / rows[0]["video_path"]).samefile(file)
        assert probe(file).has_audio == bool(heard)
        assert (read_frames(file, [0.5]).max() > 40) == bool(seen)
        assert rows[0]["duration"] == "short"
        items = read(tmp_path / f"av{variant}.tsv", "video-mme").items
        assert [(item.question, item.key) for item in items] == [(item.question, item.key) for item in own[:2]]
        assert (items[0].options == own[0].options) == (variant != "_gt_none")


def test_a_part_and_anothers_sound_are_as_long_as_what_is_asked_about(bench: Path, tmp_path: Path) -> None:
    part = Item(id="part", question="", video="v0.mp4", span_s=(0.0, 1.0))
    whole = Item(id="whole", question="", video="v1.mp4")
    media = Media(Videos(bench / "videos"), [part, whole])
    silent = probe(tmp_path / media.video(tmp_path, part, sound=NONE))
    assert not silent.has_audio
    assert silent.duration_s == pytest.approx(1.0, abs=0.1)
    assert media._other(media._cut(part)) == media._cut(whole)
    samples = _samples_of(media._cut(part), media._cut(whole))
    assert len(samples) == round(media.duration_s(whole) * 16_000) > 16_000
    assert not samples[16_000:].any()


@pytest.mark.slow
def test_what_cant_be_exported_is_said(
    bench: Path, tmp_path: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names() == ["lmms-eval", "vlmevalkit"]
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").write_text("")
    known = ("benchmark", "export", bench, "--out", tmp_path / "out", "--format")
    for arguments, words in (
        ((*known, "lmms-evel"), "Did you mean 'lmms-eval'"),
        ((*known, "lmms-eval", "--name", "a b"), "--name 'a b': need a word"),
        ((*known, "lmms-eval", "--videos", empty), "none of 3 items can be written (q0: its video 'v0.mp4' is not in"),
        ((*known, "lmms-eval", "--items", "nothing"), "unknown"),
        (("benchmark", "export", bench, "--format", "vlmevalkit", "--out", tmp_path / "file"), "is no folder"),
    ):
        assert commandline(*arguments) == 2, words
        assert words in capsys.readouterr().err

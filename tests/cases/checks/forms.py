"""Other people's folders, tables, shards and exports: what is taken of each, and what is said of the rest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.config import template
from flywheel.formats import export
from flywheel.formats.rows import ExportRow
from flywheel.ingest import IngestResult, ingest
from flywheel.store import Workspace
from tests.cases.checks import case


def make_links(folder: Path) -> None:
    """Run the case's own script, which makes what archives lose."""
    subprocess.run(["sh", "make.sh"], cwd=folder, check=True)


def fresh(folder: Path) -> Workspace:
    """A fresh workspace."""
    Workspace.create(folder, template())
    return Workspace.open(folder, ["tracking.enabled=false"])


def taken(workspace: Workspace, *sources: Path, limit: int | None = None) -> IngestResult:
    """What an ingest of the sources counted."""
    with workspace.lock():
        return ingest(workspace, [str(source) for source in sources], limit=limit)


def said(workspace: Workspace) -> list[tuple[str, float, float, str]]:
    """Name of the file, start, end and transcript of all clips, sorted."""
    rows = workspace.clips().select("uri", "start_s", "end_s", "transcript").rows()
    return sorted((Path(uri).name, start_s, end_s, text) for uri, start_s, end_s, text in rows)


def reasons(workspace: Workspace) -> str:
    """The reasons of all rejected rows."""
    return " ".join(workspace.rejected()["reason"])


@case("07-linked-folder")
def linked_folder(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    make_links(folder)
    w = fresh(work / "w")
    assert taken(w, folder / "input" / "corpus").clips == 2
    assert [(name, text) for name, _, _, text in said(w)] == [("a.mp4", "The gate opens"), ("own.mp4", "")]
    assert taken(w, folder / "input" / "corpus").clips == 0


@case("08-linked-files")
def linked_files(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    make_links(folder)
    w = fresh(work / "w")
    assert taken(w, folder / "input" / "snapshot").clips == 1
    assert [(name, text) for name, _, _, text in said(w)] == [("boat.mp4", "The boat leaves")]
    assert w.find_clips(str(folder / "input" / "snapshot" / "boat.mp4")).height == 1


@case("09-name-is-no-utf8")
def name_is_no_utf8(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    make_links(folder)
    w = fresh(work / "w")
    assert request.getfixturevalue("commandline")("ingest", folder / "input", "--config", work / "w") == 0
    assert "ordinary.mp4" in [name for name, *_ in said(w)]
    [(uri, reason)] = w.rejected().select("uri", "reason").rows()
    assert uri.endswith("caf\\udce9.mp4")
    assert "no UTF-8" in reason


@case("22-many-texts-of-one-video")
def many_texts(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = fresh(work / "list")
    result = taken(w, folder / "input" / "list.jsonl")
    assert [text for *_, text in said(w)] == ["a man runs"]
    assert (result.clips, result.other_texts) == (1, 1)
    w = fresh(work / "many")
    result = taken(w, folder / "input" / "many.jsonl")
    assert [text for *_, text in said(w)] == ["caption 0"]
    assert (result.clips, result.other_texts, result.known) == (1, 4, 0)
    result = taken(w, folder / "input" / "many.jsonl")
    assert (result.clips, result.other_texts, result.known) == (0, 4, 1), "a caption is no video that is known"


@case("23-start-time-end-time")
def span_columns(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = fresh(work / "segments")
    taken(w, folder / "input" / "segments.jsonl")
    assert said(w) == [("c1.mp4", 1.0, 4.0, "opens a jar"), ("c1.mp4", 5.0, 9.0, "pours honey")]
    w = fresh(work / "timestamps")
    taken(w, folder / "input" / "timestamps.jsonl")
    assert said(w) == [("c1.mp4", 0.5, 4.0, "opens a jar"), ("c1.mp4", 4.5, 9.0, "pours honey")]


@case("27-hub-parquet")
def hub_parquet(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    for source in ("hub.parquet", "bytes.parquet", "repository"):
        w = fresh(work / source)
        result = taken(w, folder / "input" / source)
        assert (result.clips, result.rejected) == (2, 0), (source, result)
        assert sorted(text for *_, text in said(w)) == ["one", "two"]


@case("28-split-folders-with-metadata")
def split_folders(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = fresh(work / "w")
    assert taken(w, folder / "input" / "folder").clips == 2
    assert [(name, text) for name, _, _, text in said(w)] == [("clip1.mp4", "caption 1"), ("clip2.mp4", "caption 2")]


@case("29-dataset-with-a-sound-column")
def sound_column(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = fresh(work / "w")
    assert request.getfixturevalue("commandline")("ingest", folder / "input/dataset", "--config", work / "w") == 0
    assert [text for *_, text in said(w)] == ["one"]


@case("30-two-cameras-in-a-sample")
def two_cameras(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = fresh(work / "w")
    result = taken(w, folder / "input" / "cameras.tar")
    # One of the two may be the other's copy, byte for byte: then it is known.
    assert result.clips + result.known == 2, reasons(w)
    assert {text for *_, text in said(w)} == {"two"} or {text for *_, text in said(w)} == {"one"}


@case("31-shard-made-on-a-mac")
def made_on_a_mac(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = fresh(work / "w")
    result = taken(w, folder / "input" / "mac.tar")
    assert (result.clips, result.rejected) == (1, 0), reasons(w)
    assert [text for *_, text in said(w)] == ["one"]


@case("32-one-source-is-missing")
def missing_source(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w, capsys = fresh(work / "w"), request.getfixturevalue("capsys")
    sources = (folder / "input" / "good", folder / "input" / "no_such_folder")
    assert request.getfixturevalue("commandline")("ingest", *sources, "--config", work / "w") == 2
    said_of_it = capsys.readouterr().err
    assert "no_such_folder: no such file or folder" in said_of_it
    assert "2 clips taken in" in said_of_it
    assert w.clips().height == 2


@case("33-placeholders-in-texts")
def placeholders(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    def video(path: Path) -> str:
        path.write_bytes((folder / "input" / "slide.mp4").read_bytes())
        return ".mp4"

    row = ExportRow(
        id="slide",
        uri=str(folder / "input" / "slide.mp4"),
        start_s=0.0,
        end_s=1.0,
        fps=10.0,
        split="train",
        text=(folder / "input" / "text.txt").read_text(),
        source="transcript",
        round=0,
        annotation_id="a",
        cues=(),
        video=video,
    )
    out = work / "out"
    out.mkdir()
    export.get("llava").write([row], out)
    [conversation] = json.loads((out / "data.json").read_text())
    values = " ".join(turn["value"] for turn in conversation["conversations"])
    assert [values.count(mark) for mark in ("<video>", "<image>")] == [1, 0]


@case("36-label-studio-who-and-skipped")
def who_and_skipped(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    rows: dict[str, pl.DataFrame] = {}
    commandline = request.getfixturevalue("commandline")
    for name in ("skipped", "two", "mail", "zoneless"):
        w = fresh(work / name)
        taken(w, folder / "input" / "videos")
        assert commandline("corrections", "import", folder / "input" / f"{name}.json", "--config", work / name) == 0
        rows[name] = w.corrections()
    assert rows["skipped"]["verdict"].to_list() == ["skip"]
    assert rows["two"]["refiner"].n_unique() == rows["two"].height == 2
    assert rows["mail"]["refiner"].to_list() == ["rev@example.org"]
    assert rows["zoneless"]["at"][0].startswith("2026-05-01T10:00:00"), rows["zoneless"]["at"]

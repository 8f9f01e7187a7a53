"""Datasets from given rows, byte for byte: what other people's loaders were written for."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.core.types import Cue
from flywheel.formats import export
from flywheel.formats.card import Card, write_card
from flywheel.formats.export import ExportFormat
from flywheel.formats.export import webdataset as tars
from flywheel.formats.rows import ExportRow

TEXT = 'A "bell" <rings> & 日本.'
CUES = (Cue(start_s=0.5, end_s=1.25, text="A bell."),)


def row(
    name: str, *, text: str = TEXT, source: str = "model", video: bytes = b"film", cues: tuple[Cue, ...] = ()
) -> ExportRow:
    def write(path: Path) -> str:
        # As far as a broken video gets: something lies there, and it is no video.
        path.write_bytes(video or b"half")
        return ".mp4" if video else ""

    return ExportRow(
        id=name,
        uri=f"/v/{name}.mp4",
        start_s=1.0,
        end_s=3.5,
        fps=25.0,
        split="train",
        text=text,
        source=source,
        round=2,
        annotation_id=f"of-{name}",
        cues=cues,
        video=write,
    )


def written(form: str, folder: Path, *rows: ExportRow) -> dict[str, bytes]:
    folder.mkdir()
    export.get(form).write(iter(rows), folder)
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


ROWS = (row("a"), row("b", video=b""), row("c", source="human", text="It stops.", cues=CUES))


def test_llava(tmp_path: Path) -> None:
    files = written("llava", tmp_path / "out", *ROWS)
    assert files.pop("data.json").decode() == (
        "[\n"
        r'{"conversations": [{"from": "human", "value": "<video>\nDescribe the video."}, '
        r'{"from": "gpt", "value": "A \"bell\" <rings> & 日本."}], "id": "a", "video": "videos/a.mp4"},'
        "\n"
        r'{"conversations": [{"from": "human", "value": "<video>\nDescribe the video."}, '
        r'{"from": "gpt", "value": "It stops."}], "id": "c", "video": "videos/c.mp4"}'
        "\n]\n"
    )
    assert files == {"videos/a.mp4": b"film", "videos/c.mp4": b"film"}


def test_messages(tmp_path: Path) -> None:
    [content] = written("messages", tmp_path / "out", ROWS[2]).values()
    place = os.path.relpath("/v/c.mp4", tmp_path / "out")
    assert content.decode() == (
        '{"id": "c", "messages": [{"content": ['
        f'{{"type": "video", "video": "{place}", "video_end": 3.5, "video_start": 1.0}}, '
        '{"text": "Describe the video.", "type": "text"}], "role": "user"}, '
        '{"content": [{"text": "It stops.", "type": "text"}], "role": "assistant"}], '
        '"round": 2, "source": "human", "split": "train"}\n'
    )


def test_hf(tmp_path: Path) -> None:
    place = os.path.relpath("/v/c.mp4", tmp_path / "out")
    files = written("hf", tmp_path / "out", *ROWS)
    assert files.pop("metadata.jsonl").decode().splitlines()[1] == (
        '{"end_s": 3.5, "file_name": "videos/c.mp4", "id": "c", "round": 2, "source": "human", "split": "train", '
        f'"start_s": 1.0, "text": "It stops.", "uri": "{place}"}}'
    )
    assert list(files) == ["videos/a.mp4", "videos/c.mp4"]


def opened(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content))


def test_webdataset_parts_and_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_SHARD_CLIPS", 2)
    files = written("webdataset", tmp_path / "out", *ROWS, row("d"), row("e"))
    assert list(files) == ["clips-000000.tar", "clips-000001.tar"]
    first, second = (opened(content) for content in files.values())
    assert [first.getnames(), second.getnames()] == [
        [f"{c}{e}" for c in pair for e in (".mp4", ".txt", ".json")] for pair in ("ac", "de")
    ]
    assert first.extractfile("a.txt").read().decode() == TEXT  # type: ignore[union-attr]
    assert json.load(first.extractfile("c.json"))["source"] == "human"  # type: ignore[arg-type]
    assert {(m.mtime, m.uid, m.mode) for m in first.getmembers()} == {(0, 0, 0o644)}
    monkeypatch.setattr(tars, "_SHARD_BYTES", 4)
    assert len(written("webdataset", tmp_path / "by-bytes", row("a"), row("d"))) == 2


def test_label_studio(tmp_path: Path) -> None:
    [content] = written("label-studio", tmp_path / "out", *ROWS).values()
    model, _, human = json.loads(content)
    assert model["predictions"][0]["result"][0]["value"] == {"text": [TEXT]}
    assert (human["predictions"], model["predictions"][0]["model_version"]) == ([], "round 2")
    region, text = human["annotations"][0]["result"]
    # Seconds 1.5 to 2.25 of the file at 25 frames a second.
    assert region["value"]["ranges"] == [{"start": round(1.5 * 25) + 1, "end": round(2.25 * 25)}]
    assert (text["value"], text["id"]) == ({"text": ["A bell."]}, region["id"])


def test_webvtt(tmp_path: Path) -> None:
    files = written("webvtt", tmp_path / "out", *ROWS[::2])
    assert files["a.vtt"].decode() == (
        f"WEBVTT\n\nNOTE clip a of {os.path.relpath('/v/a.mp4', tmp_path / 'out')} from 1.000 s to 3.500 s\n\n"
        '00:00:00.000 --> 00:00:02.500\nA "bell" &lt;rings&gt; &amp; 日本.\n'
    )
    assert "00:00:00.500 --> 00:00:01.250\nA bell." in files["c.vtt"].decode()


@pytest.mark.parametrize("form", export.names())
def test_no_rows_and_no_leftovers(tmp_path: Path, form: str) -> None:
    written(form, tmp_path / "none")
    files = written(form, tmp_path / "broken", row("a", video=b""))
    assert not any(".clip" in name for name in files)


@pytest.mark.parametrize("form", export.names())
def test_rows_are_not_gathered(tmp_path: Path, form: str) -> None:
    """Each row is written before the next is asked for: memory holds one clip, however many there are."""
    alive = most = 0

    class Row(ExportRow):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def rows() -> Iterator[ExportRow]:
        nonlocal alive, most
        for number in range(50):
            alive += 1
            most = max(most, alive)
            yield Row(**vars(row(f"c{number}")))

    (tmp_path / "out").mkdir()
    export.get(form).write(rows(), tmp_path / "out")
    assert most <= 3


@pytest.mark.parametrize("form", export.names())
def test_every_card_says_how_to_load(tmp_path: Path, form: str) -> None:
    card = Card(
        name="w",
        form=form,
        round=1,
        champion_since="",
        num_clips=0,
        hours=0.0,
        counts={},
        left_out={},
        model={},
        rounds=(),
        licence="",
        num_refiners=0,
    )
    loading = export.get(form).loading
    write_card(card, tmp_path, loading=loading)
    assert f"\nLoad: `{loading}`\n" in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "dataset.json").read_text())["form"] == form


def test_a_format_without_its_loading_can_not_be_made() -> None:
    with pytest.raises(TypeError, match="loading"):
        ExportFormat(write=lambda rows, out: None)  # type: ignore[call-arg]
    for text in ("", " ", "two\nlines"):
        with pytest.raises(ValueError, match="how the dataset is loaded"):
            ExportFormat(write=lambda rows, out: None, loading=text)

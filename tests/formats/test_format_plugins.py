"""Formats from other packages: written by the command, described by the card; broken ones are one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, Annotation
from flywheel.formats import corrections, export
from flywheel.store import Workspace
from human_refine import export_queue, import_corrections
from tests.plugins import Command, Plugin

EXPORT, CORRECTIONS = "flywheel.formats.export", "flywheel.formats.corrections"

PAIRS = """
    from flywheel.formats.export import ExportFormat

    def write(rows, out):
        with open(out / "pairs.tsv", "w") as file:
            for row in rows:
                ending = row.video(out / row.id)
                (out / row.id).rename(out / (row.id + ending))
                file.write(f"{row.id}\\t{row.text}\\n")

    FORMAT = ExportFormat(write=write, loading="read pairs.tsv line by line")
"""


def test_an_export_format_of_another_package(
    ingested: Workspace, tmp_path: Path, plugin: Plugin, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """One module, and no file of ours: the command writes it and the card says how to load it."""
    plugin(EXPORT, "two_columns = pairs:FORMAT", PAIRS)
    out = tmp_path / "out"
    arguments = ("--config", ingested.root, "--format", "two-columns", "--out", out, "--json")
    assert commandline("export", *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    train = ingested.clips().filter(split="train").select(clip_id="id")
    texts = dict(ingested.annotations(round=0).join(train, on="clip_id").select("clip_id", "text").iter_rows())
    assert dict(line.split("\t") for line in (out / "pairs.tsv").read_text().splitlines()) == texts
    assert result["clips"] == len(texts) == len(list(out.glob("*.mp4"))) > 0
    assert "Load: `read pairs.tsv line by line`" in (out / "README.md").read_text()
    assert json.loads((out / "dataset.json").read_text())["form"] == "two-columns"
    [recorded] = ingested.exports()
    assert (recorded["out"], sorted(recorded["clips"])) == (str(out), sorted(texts))


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        ("pairs = pairs:FORMAT", "import a_library_that_is_not_there", r"package 'other_people' .*can't be imported"),
        ("pairs = pairs:FORMAT", PAIRS.replace(', loading="read pairs.tsv line by line"', ""), "argument: 'loading'"),
        ("pairs = pairs:FORMAT", PAIRS.replace("read pairs.tsv line by line", " "), "must say in one line how"),
        ("pairs = pairs:write", PAIRS, "brings no ExportFormat but a function"),
        ("label-studio = pairs:FORMAT", PAIRS, "this package and package 'other_people' .* both bring one"),
        ("label_studio = pairs:FORMAT", PAIRS, "this package and package 'other_people' .* both bring one"),
    ],
)
@pytest.mark.slow
def test_a_bad_export_format_is_one_line(
    ingested: Workspace,
    tmp_path: Path,
    plugin: Plugin,
    commandline: Command,
    capsys: pytest.CaptureFixture[str],
    entry: str,
    code: str,
    reason: str,
) -> None:
    plugin(EXPORT, entry, code)
    name = entry.partition(" ")[0].replace("_", "-")
    out = tmp_path / "out"
    assert commandline("export", "--config", ingested.root, "--format", name, "--out", out) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"export format '{name}': ")
    assert re.search(reason, line), line
    assert not out.exists()
    assert ingested.exports() == []


def test_two_packages_with_one_name(plugin: Plugin) -> None:
    plugin(EXPORT, "pairs = pairs:FORMAT", PAIRS, package="first")
    plugin(EXPORT, "pairs = couples:FORMAT", PAIRS, package="second")
    with pytest.raises(UserError, match="both bring one") as error:
        export.get("pairs")
    assert "package 'first' (pairs:FORMAT)" in str(error.value)
    assert "package 'second' (couples:FORMAT)" in str(error.value)
    assert export.get("llava").loading, "who does not use them is not hurt"


LINES = """
    from flywheel.formats.corrections import CorrectionFormat, checked_row

    def read(content, stem):
        for number, line in enumerate(content.decode().splitlines(), 1):
            annotation, text = line.split(" ", 1)
            yield checked_row(number, {"annotation_id": annotation, "verdict": "edit", "text": text})

    def write(rows, out):
        out.write_text("".join(f"{row.annotation_id} {row.text}\\n" for row in rows))

    FORMAT = CorrectionFormat(endings=(".lines",), read=read, write=write)
"""


def waiting(clip: str) -> Annotation:
    return Annotation(
        id=f"a-{clip}",
        round=1,
        kind=CAPTION,
        clip_id=clip,
        generation_id="",
        source="model",
        text="A bell.",
        mean_logprob=-1.0,
    )


def test_a_corrections_format_of_another_package(ingested: Workspace, tmp_path: Path, plugin: Plugin) -> None:
    plugin(CORRECTIONS, "lines = lines:FORMAT", LINES)
    assert ".lines" in corrections.endings(plain=True)
    with ingested.lock():
        train = ingested.clips().filter(split="train")["id"]
        ingested.add_annotations([waiting(clip) for clip in train], 1)
    file = tmp_path / "waiting.lines"
    count = export_queue(ingested, file, form="lines")
    lines = file.read_text().splitlines()
    assert len(lines) == count > 0
    assert all(line.startswith("a-") and line.endswith(" A bell.") for line in lines)
    file.write_text(f"{lines[0].split()[0]} What is right.\nnobody Says this.\n")
    report = import_corrections(ingested, file)
    assert (report.added, len(report.refused)) == (1, 1)
    assert ingested.corrections()["text"].to_list() == ["What is right."]


def test_a_bad_corrections_format_does_not_hurt_files_of_others(
    ingested: Workspace, tmp_path: Path, plugin: Plugin
) -> None:
    plugin(CORRECTIONS, "lines = lines:FORMAT", "raise RuntimeError('no luck')")
    (tmp_path / "a.csv").write_text("annotation_id,verdict\n")
    assert import_corrections(ingested, tmp_path / "a.csv").refused == []
    (tmp_path / "a.lines").write_text("")
    with pytest.raises(UserError, match=r"lines.*can't be imported \(RuntimeError: no luck\)"):
        import_corrections(ingested, tmp_path / "a.lines")


def test_two_formats_of_one_ending(ingested: Workspace, tmp_path: Path, plugin: Plugin) -> None:
    plugin(CORRECTIONS, "lines = lines:FORMAT", LINES.replace(".lines", ".csv"))
    (tmp_path / "a.csv").write_text("annotation_id,verdict\n")
    with pytest.raises(UserError, match=r"csv and lines both read '\.csv'"):
        import_corrections(ingested, tmp_path / "a.csv")

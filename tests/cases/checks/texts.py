"""Subtitles as players read them, and encodings and spreadsheets."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.ingest import IngestResult, ingest
from flywheel.store import Workspace
from human_refine import import_corrections
from tests.cases.checks import case


def workspace_in(work: Path, name: str = "w") -> Workspace:
    Workspace.create(work / name, template())
    return Workspace.open(work / name, ["tracking.enabled=false"])


def taken(w: Workspace, *sources: Path) -> IngestResult:
    with w.lock():
        return ingest(w, [str(source) for source in sources])


def transcripts(w: Workspace) -> dict[str, str]:
    return {Path(clip["uri"]).stem: clip["transcript"] for clip in w.clips().to_dicts()}


def of_folder(folder: Path, work: Path) -> dict[str, str]:
    """Name -> transcript of each clip of the case's folder; no clip has a replacement character."""
    found = transcripts_of(folder, work)
    assert not any("\ufffd" in text for text in found.values())
    return found


def transcripts_of(folder: Path, work: Path) -> dict[str, str]:
    w = workspace_in(work)
    taken(w, folder / "input")
    return transcripts(w)


@case("10-rolling-captions")
def rolling(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    taken(w, folder / "input")
    assert transcripts(w) == {
        "rolling": "today we plant six beans in a glass jar and water them every morning",
        "rolled": "the wheel turns and the belt moves the box falls",
    }
    [cues] = [clip["cues"] for clip in w.clips().to_dicts() if clip["uri"].endswith("rolling.mp4")]
    assert len(cues) == 4
    assert cues[0]["start_s"] == 0.24


@case("11-subtitle-encodings")
def encodings(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    result = taken(w, folder / "input")
    assert transcripts(w) == {
        "western": "Le café est très chaud L’été – déjà",
        "cyrillic": "Кошка идёт домой",
        "sixteen": "Die Tür schließt und öffnet",
    }
    assert any("Windows-1252" in note for note in result.notes)
    assert any("Windows-1251" in note for note in result.notes)


@case("12-cues-without-blank-lines")
def dense(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    taken(w, folder / "input")
    assert transcripts(w) == {"dense": "First we measure the flour then we add the water and knead the dough"}
    assert [len(cues) for cues in w.clips()["cues"]] == [3]


@case("13-blank-line-inside-a-cue")
def blank_line(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert of_folder(folder, work) == {"gap": "first line second line after a blank third"}


@case("14-less-than-is-no-tag")
def signs(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert of_folder(folder, work) == {"signs": "if x < 3 and y > 4 then stop I <3 this bike red text"}


@case("15-language-in-the-name")
def language(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    result = taken(w, folder / "input")
    assert transcripts(w) == {"talk": "The bridge opens", "two": "Das Tor geht auf"}
    [note] = result.notes
    assert "two.de.srt" in note


@case("16-styled-subtitles-inside")
def styled(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    found = of_folder(folder, work)
    assert found["ass"] == "The door opens slowly A sign He sits down, slowly"
    assert found["srt"] == "The lamp is on Up there & down"
    assert found["tx3g"]
    assert not any(sign in text for text in found.values() for sign in ("\\", "{", "<", "&amp;", "m 0 0"))


@case("20-subtitles-come-later")
def later(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    first = folder / "input" / "first"
    first.chmod(0o755)
    assert taken(w, first).clips == 1
    (first / "gate.vtt").write_bytes((folder / "input" / "later" / "gate.vtt").read_bytes())
    result = taken(w, first)
    assert (result.known, result.new_texts) == (0, 1)
    assert w.annotations(round=0)["text"].to_list() == ["The gate opens"]
    assert transcripts(w) == {"gate": "The gate opens"}
    assert (taken(w, first).known, w.count("annotations")) == (1, 1)


@case("21-jsonl-with-a-mark")
def jsonl(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    result = taken(w, folder / "input" / "rows.jsonl")
    assert (result.clips, result.rejected) == (2, 0)
    assert sorted(transcripts(w).values()) == ["one", "two"]


@case("24-spreadsheet-tables")
def tables(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    names = ("cp1252.csv", "semicolon.csv", "sep.csv", "tabs.tsv", "utf16.csv")
    assert {path.name for path in (folder / "input").glob("*sv")} == set(names)
    for name in names:
        w = workspace_in(work, name)
        result = taken(w, folder / "input" / name)
        assert transcripts(w) == {"c1": 'A jar, "big" one second line', "c2": "für später"}, name
        assert bool(result.notes) == (name == "cp1252.csv")


@case("25-texts-that-look-like-numbers")
def numbers(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    for name, right in (("numbers.csv", {"c1": "007", "c2": "1066"}), ("blank.csv", {"c1": "one"})):
        w = workspace_in(work, name)
        taken(w, folder / "input" / name)
        assert transcripts(w) == right


@case("26-paths-from-elsewhere")
def paths(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    assert taken(w, folder / "input" / "win.csv").clips == 1
    assert taken(w, folder / "input" / "drive.csv").rejected == 1
    assert "path of Windows" in w.rejected()["reason"][-1]
    assert taken(w, folder / "input" / "urls.csv").rejected == 2
    addresses = w.rejected()["reason"].to_list()[-2:]
    assert all("addresses are not fetched" in reason or "is an address" in reason for reason in addresses)
    assert "https://example.org/c1.mp4" in addresses[0]
    assert "s3://bucket/c2.mp4" in addresses[1]
    (folder / "input").chmod(0o755)
    (folder / "input" / "own.csv").write_text(f"video,caption\n{(folder / 'input' / 'c2.mp4').as_uri()},own\n")
    assert taken(w, folder / "input" / "own.csv").clips == 1


@case("34-half-filled-sheet")
def half_filled(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    w = workspace_in(work)
    taken(w, folder / "input" / "videos")
    report = import_corrections(w, folder / "input" / "queue.csv")
    assert (report.added, report.blank, report.refused) == (2, 2, [])


@case("35-sheets-from-spreadsheets")
def sheets(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    for name in ("cp1252.csv", "semicolon.csv", "sep.csv", "utf16.csv"):
        w = workspace_in(work, name)
        taken(w, folder / "input" / "videos")
        report = import_corrections(w, folder / "input" / name)
        assert (report.added, report.refused) == (2, []), name
        assert report.changes[0]["after"] == "Une abeille se pose, très près"
    bad = work / "sheet.csv"
    bad.write_bytes("annotation_id,uri\nx,y\n".encode("utf-16"))
    with pytest.raises(UserError, match="needs the column verdict") as error:
        import_corrections(w, bad)
    assert str(error.value).isprintable()


@case("56-vtt-with-everything")
def everything(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert of_folder(folder, work) == {"all": "The red lamp is on It goes & comes <soon>", "mark": "Hello there"}

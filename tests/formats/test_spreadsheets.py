"""Tables and corrections as spreadsheets and other machines save them, and encodings that they are in."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from flywheel.core.encodings import decoded
from flywheel.formats.corrections import read_corrections
from flywheel.formats.tables import Table
from flywheel.ingest.places import is_address, place_of

FRENCH = "Le café est très chaud, l’été déjà."
RUSSIAN = "Кошка идёт домой, а собака спит."


@pytest.mark.parametrize(
    ("encoding", "text", "named"),
    [
        ("utf-8", FRENCH, ""),
        ("utf-8-sig", FRENCH, ""),
        ("utf-16", FRENCH, ""),
        ("utf-16-le", RUSSIAN + " 1\n" * 20, ""),
        ("utf-16-be", FRENCH, ""),
        ("utf-32", FRENCH, ""),
        ("cp1252", FRENCH, "Windows-1252"),
        ("mac_roman", FRENCH, "Mac Roman"),
        ("cp1252", "“Don’t”, he said – and it was that.", "Windows-1252"),
        ("cp1252", "¿Qué hora es? El niño comió.", "Windows-1252"),
        ("cp1251", RUSSIAN, "Windows-1251"),
        ("koi8_r", RUSSIAN, "KOI8-R"),
        ("cp1250", "Nie wiem, dlaczego on to zrobił, proszę się.", "Windows-1250"),
        ("cp932", "なぜ彼がそれをしたのか分かりません。", "Shift-JIS"),
        ("euc_jp", "なぜ彼がそれをしたのか分かりません。", "EUC-JP"),
        ("gb18030", "我不知道他为什么这样做，谢谢你们。", "GB18030"),
        ("cp949", "그가 왜 그렇게 했는지 모르겠습니다.", "EUC-KR"),
        ("iso2022_jp", "なぜ彼がそれをしたのか分かりません。", "ISO-2022-JP"),
    ],
)
def test_an_encoding_is_told_or_said_to_be_guessed(encoding: str, text: str, named: str) -> None:
    content = text.encode("utf-16-le" if encoding == "utf-16" else encoding)
    read = decoded(b"\xff\xfe" + content if encoding == "utf-16" else content)
    assert read.text == text
    assert (named in read.note) if named else (read.note == "")


@pytest.mark.parametrize(
    "content", [b"\xe9", "שלום לכולם".encode("cp1255"), "سلام عليكم".encode("cp1256"), b"\xff\xfe\x00\xd8"]
)
def test_what_cant_be_told_is_not_guessed(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"can't be told|broken at byte"):
        decoded(content)


def test_a_few_bad_bytes_are_left_out_and_said() -> None:
    read = decoded(("Größe und Länge, " * 20).encode() + b"\xff!")
    assert read.text.endswith("Länge, !")
    assert "left out" in read.note
    assert decoded(b"\xff\xfea\0b").text == "a", "half a character at the end is a copy that broke off"


def cells(content: bytes, *, pad: bool = True) -> list[dict[str, str] | str]:
    table = Table(io.BytesIO(content), ("video", "file_name", "caption"), ("video", "file_name"), pad=pad)
    return [row.problem or dict(row.values) for row in table]


@pytest.mark.parametrize(
    "content",
    [
        b"video,caption\na.mp4,x\n",
        b"video;caption\r\na.mp4;x\r\n",
        b"video\tcaption\ra.mp4\tx\r",
        b"video|caption\na.mp4|x",
        b"sep=;\r\nvideo;caption\r\na.mp4;x\r\n",
        b'"sep=|"\nvideo|caption\na.mp4|x\n',
        "video;caption\r\na.mp4;x\r\n".encode("utf-16"),
        b"\xef\xbb\xbf Video , CAPTION \na.mp4, x\n",
        b'"video","caption"\n"a.mp4","x"\n',
        b"Table 1\n\nvideo,caption,,\na.mp4,x,,\n,,,\n\n",
        b"caption,video\nx,a.mp4\n",
        b"nr,video,caption\n,a.mp4,x\n",
    ],
)
def test_tables_of_all_separators(content: bytes) -> None:
    [row] = cells(content)
    assert isinstance(row, dict)
    assert {name: cell for name, cell in row.items() if cell} == {"video": "a.mp4", "caption": "x"}


def test_cells_are_text_and_a_bad_row_is_one_row() -> None:
    content = b'video,caption\na.mp4,007\nb.mp4,"He said ""no"",\nthen left"\n'
    content += b'"c.mp4,x\nd.mp4,"y"z\ne.mp4,NaN\nf.mp4,a,b\ng.mp4\n'
    rows = cells(content)
    assert [row["caption"] for row in rows if isinstance(row, dict) and "caption" in row] == [
        "007",
        'He said "no",\nthen left',
        "NaN",
    ]
    assert [row for row in rows if isinstance(row, str)] == [
        "not CSV (',' expected after '\"')",
        "not CSV (',' expected after '\"')",
        "has 3 cells, the header has 2",
    ]
    assert rows[-1] == {"video": "g.mp4"}
    assert cells(b"video,caption\ng.mp4\n", pad=False) == ["has 1 cells, the header has 2"]
    assert cells(b"video,caption\n\xff,x\na.mp4,y\n") == ["not valid UTF-8", {"video": "a.mp4", "caption": "y"}]
    assert cells(b"File Name,caption\na.mp4,x\n") == [{"file_name": "a.mp4", "caption": "x"}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" + bytes(30), "workbook.*save it as CSV"),
        (b"\xd0\xcf\x11\xe0" + bytes(30), "Excel.*save it as CSV"),
        (b"\x1f\x8b" + bytes(30), "compressed"),
        (b"video,video\na,b\n", "'video' twice"),
    ],
)
def test_what_is_no_table_is_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cells(content)


HEADER = "annotation_id;uri;model_text;verdict;text;refiner"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"{HEADER}\r\na1;u;m;edit;très près;A\r\n".encode("cp1252")),
        ("a.csv", f"{HEADER};;\r\na1;u;m;edit;très près;A;;\r\n;;;;;;;\r\n".encode("utf-8-sig")),
        ("a.tsv", f"{HEADER}\r\na1;u;m;edit;très près;A\r\n".replace(";", "\t").encode("utf-16")),
        ("a.csv", "Queue\nRefiner,Verdict,Text,Annotation ID,Column5\nA,edit,très près,a1,\n".encode()),
        ("a.jsonl", '{"annotation_id": "a1", "verdict": "edit", "text": "très près", "refiner": "A"}'.encode("utf-16")),
    ],
)
def test_sheets_come_back_as_people_save_them(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    [row] = read_corrections(tmp_path / name)
    assert row.problem == ""
    assert [row.values[key] for key in ("annotation_id", "verdict", "text", "refiner")] == [
        "a1",
        "edit",
        "très près",
        "A",
    ]
    assert ("Windows-1252" in row.note) == content.endswith("pr\xe8s;A\r\n".encode("cp1252"))


def test_places_as_other_machines_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in").mkdir()
    for name in ("in/a b.mp4", "in/100%.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"")
    for given, found in {
        "in\\a b.mp4": "in/a b.mp4",
        ".\\in\\a b.mp4": "in/a b.mp4",
        "in/a%20b.mp4": "in/a b.mp4",
        " c.mp4 ": "c.mp4",
        '"c.mp4"': "c.mp4",
        "in/100%.mp4": "in/100%.mp4",
        "~/c.mp4": "c.mp4",
        f"file://{tmp_path}/in/a%20b.mp4": "in/a b.mp4",
        f"file://localhost{tmp_path}/c.mp4": "c.mp4",
        f"file:{tmp_path}/c.mp4": "c.mp4",
        "absent.mp4": "absent.mp4",
    }.items():
        assert place_of(given, tmp_path).resolve() == tmp_path / found
    for given, reason in {
        "D:\\data\\c.mp4": "path of Windows",
        "\\\\server\\share\\c.mp4": "path of Windows",
        "file:///C:/c.mp4": "path of Windows",
        "file://server/share/c.mp4": "of another machine",
        "https://u:secret@h/c.mp4?sig=secret": "https://…@h/c.mp4.… is an address",
        "s3://bucket/c.mp4": "s3://bucket/c.mp4 is an address",
        "data:video/mp4;base64,AAAA": "is an address",
    }.items():
        with pytest.raises(ValueError, match=reason) as error:
            place_of(given, tmp_path)
        assert "secret" not in str(error.value)
    assert not is_address("C:/x.mp4")

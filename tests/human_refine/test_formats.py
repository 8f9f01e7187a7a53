"""Corrections as files: what goes out comes back, exact to the millisecond or within one frame; what is wrong is
named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Clip, Cue
from flywheel.formats.subtitles import parse_subtitles, srt, webvtt
from flywheel.kinds.dense_caption import check_cues
from flywheel.store import Workspace
from human_refine import export_queue, import_corrections

FPS = 29.97
CUES = [
    Cue(start_s=0.5, end_s=1.234, text="A bell rings."),
    Cue(start_s=1.234, end_s=3.999, text="A dog <barks> & runs."),
    Cue(start_s=3661.001, end_s=3662.0, text="Ends."),
]


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace]) -> Workspace:
    """Three clips in the middle of a long file, each with a caption and a dense caption."""
    w = make_workspace()
    clips = [
        Clip(
            id=f"c{i}",
            uri=f"/videos/{i}.mp4",
            content_hash=f"h{i}",
            start_s=600.0 + i,
            end_s=4600.0,
            fps=FPS,
            width=64,
            height=64,
            has_audio=True,
            transcript="",
            sounds="",
            split="train",
        )
        for i in range(3)
    ]
    with w.lock():
        w.add_clips(clips)
        payload = json.dumps({"cues": [vars(c) for c in CUES]})
        w.add_annotations(
            [
                Annotation(
                    id=f"{kind[0]}{i}",
                    round=1,
                    kind=kind,
                    clip_id=f"c{i}",
                    generation_id="",
                    source="model",
                    text=f"A caption {i}.",
                    mean_logprob=-i,
                    payload=payload if kind == "dense_caption" else "",
                )
                for i in range(3)
                for kind in ("caption", "dense_caption")
            ],
            1,
        )
    return w


def captions_only(make_workspace: Callable[..., Workspace], workspace: Workspace) -> Workspace:
    w = make_workspace(name="captions")
    with w.lock():
        w.records.append("clips", workspace.clips().to_dicts())
        w.records.append("annotations", workspace.annotations(kind="caption").to_dicts(), round=1)
    return w


def cues_of(payload: str) -> list[Cue]:
    return [Cue(**c) for c in json.loads(payload)["cues"]]


def test_webvtt_and_srt_are_exact_to_the_millisecond() -> None:
    for written in (webvtt(CUES, note="annotation a1"), srt(CUES)):
        assert parse_subtitles(written) == CUES


def test_the_ending_says_the_form_and_rows_say_where_the_clip_is(
    make_workspace: Callable[..., Workspace], workspace: Workspace, tmp_path: Path
) -> None:
    """Excel's CSV comes back as it is: filled rows are taken, blank ones are not done, and the rest is ignored."""
    w = captions_only(make_workspace, workspace)
    out = tmp_path / "queue.csv"
    count = export_queue(w, out, url="http://review.example:80/")
    frame = pl.read_csv(out, infer_schema=False)
    assert frame.height == count >= 2
    row = frame.row(0, named=True)
    clip = w.clips_by_id([row["clip_id"]]).row(0, named=True)
    assert (float(row["start_s"]), float(row["end_s"]), row["split"]) == (clip["start_s"], clip["end_s"], clip["split"])
    assert row["link"] == f"http://review.example:80/?text={row['annotation_id']}"
    assert row["verdicts"] == "accept | edit | reject | skip | cant_tell"
    filled = frame.with_columns(
        verdict=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("accept")), refiner=pl.lit("Ann")
    )
    out.write_bytes("\ufeff".encode() + filled.write_csv(separator=";").encode())
    report = import_corrections(w, out)
    assert (report.added, report.blank, report.refused) == (1, count - 1, [])
    assert export_queue(w, tmp_path / "new" / "queue") == count - 1, "in a folder that is made"
    assert export_queue(w, tmp_path / "queue") == count - 1
    assert json.loads((tmp_path / "queue").read_text().splitlines()[0])["annotation_id"], "JSON lines without an ending"
    with pytest.raises(UserError, match=r"queue.xlsx: .xlsx is read and not written. Write .*queue.csv"):
        export_queue(w, tmp_path / "queue.xlsx")
    with pytest.raises(UserError, match=r"queue.doc: unknown ending '.doc'"):
        export_queue(w, tmp_path / "queue.doc")


@pytest.mark.parametrize("form", ["webvtt", "srt"])
def test_subtitles_go_out_and_come_back(workspace: Workspace, tmp_path: Path, form: str) -> None:
    out = tmp_path / "cues"
    assert export_queue(workspace, out, form=form) == 3
    files = sorted(out.iterdir())
    text = files[0].read_text()
    files[0].write_text(text.replace("A bell rings.", "A bell rings twice."))
    report = import_corrections(workspace, files[0])
    assert (report.added, report.refused) == (1, [])
    [found] = workspace.correction_records()
    assert found.annotation_id == files[0].stem
    assert cues_of(found.payload) == [Cue(start_s=0.5, end_s=1.234, text="A bell rings twice."), *CUES[1:]]
    assert found.text.startswith("A bell rings twice. A dog")
    assert import_corrections(workspace, files[0]).known == 1


def changed_in_label_studio(tasks: list[dict], shift: int) -> list[dict]:  # type: ignore[type-arg]
    """What Label Studio's export makes of tasks whose predictions a person took over, with the first cue's end
    moved."""
    out = []
    for number, found in enumerate(tasks):
        result = json.loads(json.dumps(found["predictions"][0]["result"]))
        for part in result:
            part |= {"origin": "prediction-changed", "original_length": 119880}
        if shift:
            result[0]["value"]["ranges"][0]["end"] += shift
        annotation = {
            "id": number,
            "completed_by": {"id": 1, "email": "ann@example.org"},
            "result": result,
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2026-10-01T12:00:00.000000Z",
            "updated_at": "2026-10-01T12:00:05.000000Z",
            "lead_time": 7.5,
            "prediction": {},
            "result_count": 0,
        }
        out.append(
            {
                "id": number,
                "annotations": [annotation],
                "data": found["data"],
                "meta": {},
                "project": 1,
                "total_annotations": 1,
            }
        )
    return out


def test_label_studio_with_cues(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    assert export_queue(workspace, file, form="label-studio") == 3
    tasks = json.loads(file.read_text())
    assert tasks[0]["data"]["fps"] == FPS
    span = tasks[0]["predictions"][0]["result"][0]["value"]["ranges"][0]
    assert abs((span["start"] - 1) / FPS - (CUES[0].start_s + tasks[0]["data"]["start_s"])) <= 0.5 / FPS + 1e-9
    file.write_text(json.dumps(changed_in_label_studio(tasks, shift=3)))
    report = import_corrections(workspace, file)
    assert report.added == 0
    assert all("overlap" in line for line in report.refused)
    assert len(report.refused) == 3
    file.write_text(json.dumps(changed_in_label_studio(tasks, shift=-3)))
    report = import_corrections(workspace, file)
    assert (report.added, report.refused) == (3, [])
    for found in workspace.correction_records():
        cues = cues_of(found.payload)
        assert found.refiner == "ann@example.org"
        assert found.seconds == 7.5
        # What was not touched is exact, what was moved is within a frame of where it was put.
        assert cues[1:] == CUES[1:]
        assert cues[0].start_s == pytest.approx(0.5, abs=1 / FPS)
        assert cues[0].end_s == pytest.approx(1.234 - 3 / FPS, abs=1 / FPS)
    assert import_corrections(workspace, file).known == 3


def test_label_studio_with_captions(
    make_workspace: Callable[..., Workspace], workspace: Workspace, tmp_path: Path
) -> None:
    w = captions_only(make_workspace, workspace)
    file = tmp_path / "tasks.json"
    assert export_queue(w, file, form="label-studio") == 3
    tasks = changed_in_label_studio(json.loads(file.read_text()), shift=0)
    tasks[0]["annotations"][0]["result"][0]["value"]["text"] = ["A better caption."]
    tasks[1]["annotations"][0]["was_cancelled"] = True
    tasks.append({"id": 9, "annotations": [{"result": [{"from_name": "caption"}]}], "data": {}})
    file.write_text(json.dumps(tasks))
    report = import_corrections(w, file)
    assert report.added == 3
    assert len(report.refused) == 1
    assert "not a task as exported" in report.refused[0]
    assert sorted((c.verdict, c.text) for c in w.correction_records()) == [
        ("accept", ""),
        ("edit", "A better caption."),
        ("skip", ""),
    ]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_tables_go_out_and_come_back(workspace: Workspace, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"queue.{form}"
    assert export_queue(workspace, file, form=form) == 3
    read = {"jsonl": pl.read_ndjson, "csv": pl.read_csv, "parquet": pl.read_parquet}[form]
    frame = read(file)  # type: ignore[operator]
    frame = frame.with_columns(verdict=pl.lit("edit"), text=pl.lit("What is right."), refiner=pl.lit("ann"))
    {"jsonl": frame.write_ndjson, "csv": frame.write_csv, "parquet": frame.write_parquet}[form](file)
    report = import_corrections(workspace, file)
    assert (report.added, report.refused) == (3, [])
    assert {c.text for c in workspace.correction_records()} == {"What is right."}
    assert import_corrections(workspace, file).known == 3


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([(2, 1)], r"got \[2, 1\)"),
        ([(0, 9)], r"got \[0, 9\)"),
        ([(0, 2), (1, 3)], "overlap"),
        ([(-1, 1)], r"got \[-1, 1\)"),
    ],
)
def test_cues_that_cannot_be(spans: list[tuple[float, float]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_cues([Cue(start_s=a, end_s=b, text="x") for a, b in spans], 4.0)


def test_files_that_are_no_corrections(workspace: Workspace, tmp_path: Path) -> None:
    for name, content, reason in (
        ("a.json", b"{}", "must be a list"),
        ("a.json", b"[", "not Label Studio"),
        ("a.json", b"[" * 99999, "not Label Studio"),
        ("a.parquet", b"PAR1", "can't be read as Parquet"),
        ("a.xml", b"", "unknown ending"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(UserError, match=reason):
            import_corrections(workspace, file)
    file = tmp_path / "nobody.vtt"
    file.write_text(webvtt(CUES))
    assert "annotation 'nobody' is unknown" in import_corrections(workspace, file).refused[0]
    file.write_text("WEBVTT\n\nNOTE annotation c0\n\n00:01.000 --> 00:02.000\nx\n")
    assert "a caption has no cues" in import_corrections(workspace, file).refused[0]


def test_what_a_spreadsheet_makes_of_both_texts_is_no_edit(workspace: Workspace, tmp_path: Path) -> None:
    header = "annotation_id;uri;model_text;verdict;text;refiner;seconds\n"
    rows = "c0;u;WAHR;accept;WAHR;Ann;1,5\nc1;u;7;Accept;seven;Ann;\nc2;u;A caption 2.;Can't tell;A caption 2.;Ann;\n"
    (tmp_path / "sheet.csv").write_text(header + rows)
    report = import_corrections(workspace, tmp_path / "sheet.csv")
    assert (report.added, report.refused, report.notes) == (3, [], [])
    found = {c.annotation_id: (c.verdict, c.text, c.seconds) for c in workspace.correction_records()}
    assert found == {"c0": ("accept", "", 1.5), "c1": ("edit", "seven", 0.0), "c2": ("cant_tell", "", 0.0)}


@pytest.mark.parametrize("made", ["6,12E+28", "1.2e10", "12345678901234500000", "123"])
def test_ids_that_became_numbers_are_named(workspace: Workspace, tmp_path: Path, made: str) -> None:
    (tmp_path / "sheet.csv").write_text(
        f"annotation_id;verdict;text\n{made};edit;A bell.\nc0;edit;A très bell.\n", "cp1252"
    )
    report = import_corrections(workspace, tmp_path / "sheet.csv")
    [refused] = report.refused
    assert "number that a spreadsheet made of an id" in refused
    assert made in refused
    assert report.added == 1
    assert report.notes == ["sheet.csv: read as Windows-1252, as it is no UTF-8"]

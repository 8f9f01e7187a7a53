"""Datasets taken away: each loaded by what it is for, and the same bytes from the same champion."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sql
import yaml

from flywheel.core.errors import UserError
from flywheel.core.reading import Reading, Unreadable
from flywheel.core.types import Correction, Cue
from flywheel.formats import export as formats
from flywheel.formats.subtitles import parse_subtitles
from flywheel.media.probe import probe
from flywheel.rounds import RoundContext, champion
from flywheel.rounds import export as exporting
from flywheel.rounds.export import export
from flywheel.rounds.export_rows import ClipVideo, DatasetRows, ExportCounts, ExportFiles
from flywheel.rounds.stages import gate as gate_stage
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from flywheel.store.schema import locations
from human_refine.gold import add_gold
from human_refine.people import exclude
from tests.rounds.test_champion import context, prepared, says  # noqa: F401
from tests.rounds.test_rounds import correct

Make = Callable[..., Workspace]


@pytest.fixture
def wheel(context: RoundContext) -> RoundContext:  # noqa: F811
    """A champion of round 1 whose train clips have a person's text, a model's, a rejected one, and a dense caption."""
    w = context.workspace
    edited, rejected, gold, *_ = sorted(context.split("train"), key=lambda c: c.id)
    correct(context, edited.id, 'A person\'s "text", with <marks> & 日本.')
    correct(context, rejected.id, "", verdict="reject")
    add_gold(w, {gold.id: "Known."}, "lead")
    cue = {
        "cues": [
            {"start_s": 0.25, "end_s": 1.5, "text": "A ball rolls."},
            {"start_s": 1.5, "end_s": 2.0, "text": "It stops."},
        ]
    }
    one = CurrentTexts(w).captions(1)[edited.id]
    w.add_annotations([replace(one, id="dense", kind="dense_caption", payload=json.dumps(cue))], 1)
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    gate_stage.run(context, 1)
    w.set_stage(1, "gate", "done", {"verdict": "promoted"})
    return context


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def wanted(context: RoundContext) -> dict[str, str]:  # noqa: F811
    edited, _rejected, _gold, *rest = sorted(context.split("train"), key=lambda c: c.id)
    texts = CurrentTexts(context.workspace)
    edits = {edited.id: 'A person\'s "text", with <marks> & 日本.'}
    # What people rejected is nobody's caption; nothing is put in its place.
    return edits | {c.id: texts.captions(1)[c.id].text for c in rest}


@pytest.mark.slow
def test_llava(wheel: RoundContext, tmp_path: Path) -> None:
    result = export(wheel, tmp_path / "out", "llava")
    rows = json.loads((tmp_path / "out" / "data.json").read_text())
    assert {r["id"]: r["conversations"][1]["value"] for r in rows} == wanted(wheel)
    assert result.clips == len(rows)
    for row in rows:
        assert [t["from"] for t in row["conversations"]] == ["human", "gpt"]
        assert row["conversations"][0]["value"].count("<video>") == 1
        assert probe(tmp_path / "out" / row["video"]).duration_s > 0


@pytest.mark.slow
def test_messages_are_read_line_by_line_and_fit_the_chat_template(wheel: RoundContext, tmp_path: Path) -> None:
    export(wheel, tmp_path / "out", "messages", splits=("train", "anchor"))
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    texts = {row["id"]: row["messages"][1]["content"][0]["text"] for row in rows}
    anchors = {c.id for c in wheel.split("anchor")}
    assert {i: t for i, t in texts.items() if i not in anchors} == wanted(wheel)
    assert set(texts) >= anchors
    video = rows[0]["messages"][0]["content"][0]["video"]
    assert (tmp_path / "out" / video).resolve() == Path(wheel.clips[rows[0]["id"]].uri).resolve()
    from flywheel.models.load import load_processor

    talk = rows[0]["messages"]
    words = load_processor(wheel.base).apply_chat_template(talk, tokenize=False)
    assert talk[1]["content"][0]["text"] in words
    # A video that was replaced since is left out, and counted.
    replaced, other = wheel.clips[rows[0]["id"]], wheel.clips[rows[1]["id"]]
    before = Path(replaced.uri).read_bytes()
    try:
        Path(replaced.uri).write_bytes(Path(other.uri).read_bytes())
        again = export(wheel, tmp_path / "again", "messages", splits=("train", "anchor"))
    finally:
        Path(replaced.uri).write_bytes(before)
    assert again.left_out["whose file holds another video now"] == 1
    assert again.clips == len(rows) - 1


@pytest.mark.slow
def test_a_folder_for_hugging_face_has_videos_that_play(wheel: RoundContext, tmp_path: Path) -> None:
    import datasets

    export(wheel, tmp_path / "out", "hf")
    loaded = datasets.load_dataset("videofolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))[
        "train"
    ]
    assert isinstance(loaded.features["video"], datasets.Video)
    rows = loaded.cast_column("video", datasets.Video(decode=False))
    assert {row["id"]: row["text"] for row in rows} == wanted(wheel)
    assert all(probe(Path(row["video"]["path"])).fps > 0 for row in rows)


@pytest.mark.slow
def test_webdataset(wheel: RoundContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import webdataset

    monkeypatch.setattr("flywheel.formats.export.webdataset._SHARD_CLIPS", 3)
    export(wheel, tmp_path / "out", "webdataset")
    tars = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    assert len(tars) == (len(wanted(wheel)) + 2) // 3
    rows = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    assert {row["__key__"]: row["txt"].decode() for row in rows} == wanted(wheel)
    (tmp_path / "v.mp4").write_bytes(rows[0]["mp4"])
    assert probe(tmp_path / "v.mp4").duration_s > 0
    assert json.loads(rows[0]["json"])["id"] == rows[0]["__key__"]


@pytest.mark.slow
def test_label_studio_and_subtitles(wheel: RoundContext, tmp_path: Path) -> None:
    export(wheel, tmp_path / "tasks", "label-studio")
    tasks = json.loads((tmp_path / "tasks" / "tasks.json").read_text())
    by_people = [t for t in tasks if t.get("annotations")]
    assert len(by_people) == 1
    assert "A ball rolls." in json.dumps(by_people[0]["annotations"])
    assert sum(len(t["predictions"]) for t in tasks) == len(tasks) - 1
    export(wheel, tmp_path / "subtitles", "webvtt")
    files = {p.stem: parse_subtitles(p.read_text()) for p in (tmp_path / "subtitles").glob("*.vtt")}
    edited = sorted(wheel.split("train"), key=lambda c: c.id)[0]
    assert files.pop(edited.id) == [
        Cue(start_s=0.25, end_s=1.5, text="A ball rolls."),
        Cue(start_s=1.5, end_s=2.0, text="It stops."),
    ]
    assert all(len(cues) == 1 and cues[0].text == wanted(wheel)[i] for i, cues in files.items())
    no = Correction(
        id="no",
        annotation_id="dense",
        clip_id=edited.id,
        verdict="reject",
        text="",
        refiner="eve",
        reason="wrong times",
        at=datetime.now(UTC),
    )
    w = wheel.workspace
    w.add_corrections([no])
    for num_cues in (0, 2):
        rows = DatasetRows(w, w.config, 1, ("train",), ExportCounts(), with_cues=True)
        [row] = [row for row in rows if row.id == edited.id]
        assert len(row.cues) == num_cues, "times that people refused are nobody's; who is excluded refuses nothing"
        exclude(w, "eve", "guesses")


@pytest.mark.slow
def test_the_card_says_what_it_is(wheel: RoundContext, tmp_path: Path) -> None:
    export(wheel, tmp_path / "out", "messages")
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "other"
    data = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert data["num_clips"] == len(wanted(wheel)) == sum(data["counts"].values())
    assert data["left_out"]["gold, which checks refiners"] == 1
    for part in (
        champion.unit(wheel, 1)["model"],
        "| 1 | promoted |",
        "## Limits",
        "Not recorded",
        f"human: {data['counts']['human']}",
    ):
        assert part in card, part


@pytest.mark.parametrize("form", formats.names())
@pytest.mark.slow
def test_a_rollback_gives_back_the_same_bytes(wheel: RoundContext, tmp_path: Path, form: str) -> None:
    w = wheel.workspace
    export(wheel, tmp_path / "before", form, splits=("train", "anchor", "test"))
    edited = sorted(wheel.split("train"), key=lambda c: c.id)[0]
    late = w.correction_records()[-1]
    w.add_corrections(
        [
            replace(
                late,
                id="late",
                annotation_id=CurrentTexts(w).captions(1)[edited.id].id,
                verdict="edit",
                text="Said later.",
                refiner="s",
            )
        ]
    )
    says(wheel, 2, 1.0)
    one = CurrentTexts(w).captions(1)[edited.id]
    w.add_annotations(
        [replace(one, id=f"second-{c.id}", clip_id=c.id, round=2, text="By M1.") for c in wheel.split("train")], 2
    )
    champion.promote(wheel, 2, "to see")
    export(wheel, tmp_path / "between", form, splits=("train", "anchor", "test"))
    assert champion.rollback(wheel) == 1
    export(wheel, tmp_path / "after", form, splits=("train", "anchor", "test"))
    before, between, after = (everything(tmp_path / name) for name in ("before", "between", "after"))
    assert before == after
    assert before != between


def test_a_broken_video_is_counted_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    counts = ExportCounts()
    counts.keep("model", 36.0)
    counts.keep("human", 36.0)
    video = ClipVideo(str(broken), (0.0, 36.0), "model", counts, ExportFiles(1.0))
    assert [video(tmp_path / "out") for _ in range(3)] == [""] * 3
    assert (counts.clips, counts.sources, counts.left_out.total()) == (1, {"model": 0, "human": 1}, 1)
    assert counts.hours == pytest.approx(0.01)


def test_a_mistake_of_ours_is_no_broken_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.media.encode.probe", lambda _: len(None))  # type: ignore[arg-type]
    counts, files = ExportCounts(), ExportFiles(0.5)

    def write(*names: str) -> None:
        for name in names:
            files.good()
            counts.keep("model", 36.0)
            assert ClipVideo(name, (0.0, 36.0), "model", counts, files)(tmp_path / "out") == ""

    write("first.mp4")
    assert counts.left_out == {"whose video can't be read": 1}, "raised by lines that are not the package's"
    counts.left_out.clear()
    monkeypatch.setattr("flywheel.media.encode.probe", lambda _: None)
    with pytest.raises(Unreadable, match=r"clips made flywheel fail: 0.mp4 .*encode.py.*Please report it") as raised:
        write(*(f"{number}.mp4" for number in range(64)))
    assert "takedown" not in str(raised.value)
    assert counts.left_out == {"that flywheel itself failed on": 62}


@pytest.mark.slow
def test_ids_are_handed_over_one_by_one(wheel: RoundContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of a large dataset are never a list; the same are on record as were written."""
    original, sizes = Workspace.add_export, []

    def add(self: Workspace, out: Path, round: int, clip_ids: Iterable[str]) -> None:
        sizes.append(hasattr(clip_ids, "__len__"))
        original(self, out, round, clip_ids)

    monkeypatch.setattr(Workspace, "add_export", add)
    export(wheel, tmp_path / "out", "hf")
    assert sizes == [False]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert sorted(wheel.workspace.exports()[0]["clips"]) == sorted(row["id"] for row in rows)


@pytest.mark.slow
def test_of_two_exports_into_one_folder_one_is_refused_and_one_is_whole(
    wheel: RoundContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the first writes: it takes nothing away, and says so."""
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "left by a killed one").write_text("x")
    write_card, refused = exporting.write_card, []

    def meanwhile(*arguments: object, **options: object) -> None:
        with pytest.raises(UserError, match=r"out: another export writes into it\. Wait for it to end") as raised:
            export(RoundContext(wheel.workspace), tmp_path / "out", "messages")
        refused.append(raised.value.code)
        write_card(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "write_card", meanwhile)
    export(wheel, tmp_path / "out", "messages")
    assert refused == ["busy"]
    assert sorted(everything(tmp_path / "out")) == ["README.md", "dataset.json", "train.jsonl"]
    assert not part.exists()
    with pytest.raises(UserError, match="holds something already"):
        export(wheel, tmp_path / "out", "messages")
    assert not part.exists()


@pytest.mark.slow
def test_what_can_not_be_exported(wheel: RoundContext, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for arguments, says_ in (
        ((tmp_path / "full", "llava"), "holds something already"),
        ((tmp_path / "out", "coco"), "format 'coco': unknown"),
    ):
        with pytest.raises(UserError, match=says_):
            export(wheel, *arguments)
    with pytest.raises(UserError, match="never came to its gate"):
        export(wheel, tmp_path / "out", "llava", round=7)
    with pytest.raises(UserError, match="split 'dev' is unknown"):
        export(wheel, tmp_path / "out", "llava", splits=("dev",))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_file_that_is_gone_broken_or_another_costs_one_clip(
    wheel: RoundContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three of five are too many otherwise.
    monkeypatch.setattr("flywheel.rounds.export_rows.Reading", lambda what, _, **words: Reading(what, 1.0, **words))
    clips = sorted(wheel.split("train"), key=lambda c: c.id)
    gone, another, broken = [c for c in clips if c.id in wanted(wheel)][:3]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for clip in (another, broken):
        (elsewhere / Path(clip.uri).name).write_bytes(Path(clip.uri).read_bytes()[:200])
    wheel.workspace.as_of(1)
    with wheel.workspace.database.transaction() as connection:
        for clip in (gone, another, broken):
            here = sql.update(locations).where(locations.c.content_hash == clip.content_hash)
            connection.execute(here.values(uri=str(elsewhere / Path(clip.uri).name)))
            if clip is broken:
                # As it was when it was taken in: it is not read to see whether it is another.
                state = (elsewhere / Path(clip.uri).name).stat()
                connection.execute(here.values(num_bytes=state.st_size, mtime_ns=state.st_mtime_ns))
    result = export(wheel, tmp_path / "out", "hf")
    assert result.clips == len(wanted(wheel)) - 3
    reasons = ("whose file is gone", "whose file holds another video now", "whose video can't be read")
    assert [result.left_out[reason] for reason in reasons] == [1, 1, 1]
    lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    assert len(lines) == result.clips == len(list((tmp_path / "out" / "videos").iterdir()))


@pytest.mark.slow
def test_a_corpus_away_is_no_empty_dataset(
    wheel: RoundContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = wheel.split("train")
    away = sql.update(locations).where(locations.c.content_hash.in_([clip.content_hash for clip in clips]))
    with wheel.workspace.database.transaction() as connection:
        connection.execute(away.values(uri=sql.func.replace(locations.c.uri, ".mp4", " away.mp4")))
    with pytest.raises(
        Unreadable, match=r"export: \d+ of \d+ clips can't be read: .* away.mp4 .*Is the disk mounted\?"
    ):
        export(wheel, tmp_path / "out", "messages")
    assert list(tmp_path.glob("*out*")) == []
    assert capsys.readouterr().err.count("its clip is left out") <= 10

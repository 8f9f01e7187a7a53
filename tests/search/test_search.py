"""A workspace is indexed and searched: real files, a real training, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.core.errors import UserError
from flywheel.core.reading import Unreadable
from flywheel.core.types import Clip
from flywheel.ingest import ingest
from flywheel.media.encode import Quality, write_video
from flywheel.models.encoder_files import encoder_id
from flywheel.search.in_use import encoder_folder
from flywheel.search.indexing import index, outlook
from flywheel.search.searching import Searcher, SearchQuery
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex

SMALL = (
    "index.sizes={width: 32, heads: 2, layers: 1, decoder_width: 16, frames: 2, frame_size: 16, patch: 8, bands: 16, "
    "times: 16, sound_patch: 8, words: 6, vocabulary: 256}",
    "index.steps=60",
    "index.batch=16",
    "index.rate=0.004",
)
TINY = (
    "{width: 8, heads: 2, layers: 1, decoder_width: 8, frames: 1, frame_size: 8, patch: 8, bands: 8, times: 8, "
    "sound_patch: 8, words: 4, vocabulary: 64}"
)
_COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}
_PITCHES = {"low": 200, "high": 2400}
_RATE_HZ = 16_000
_QUALITY = Quality(crf=28, preset="ultrafast", threads=1)


def write(folder: Path, colour: str, pitch: str, number: int) -> Path:
    """A second of one colour with a tone, and words that say so; every third has no sound, every third no words."""
    rng = np.random.default_rng([number, len(colour), len(pitch)])
    frame = np.clip(np.array(_COLOURS[colour]) + rng.normal(0, 12, (32, 48, 3)), 0, 255).astype(np.uint8)
    times_s = np.arange(_RATE_HZ) / _RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * _PITCHES[pitch] * (1 + 0.03 * rng.random()) * times_s)
    file = folder / f"{colour}-{pitch}-{number}.mp4"
    sound = None if number % 3 == 1 else (tone.astype(np.float32), _RATE_HZ)
    write_video(
        file, [frame] * 8, size=(48, 32), fps=8, quality=Quality(crf=28, preset="ultrafast", threads=1), sound=sound
    )
    if number % 3 != 2:
        file.with_suffix(".txt").write_text(f"a {colour} wall, a {pitch} tone")
    return file


@pytest.fixture
def indexed(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> Workspace:
    """A workspace of 48 files that is indexed."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(6):
        for colour in _COLOURS:
            for pitch in _PITCHES:
                write(folder, colour, pitch, number)
    workspace = make_workspace("corpus.near_duplicates=false", *SMALL)
    with workspace.lock():
        ingest(workspace, [str(folder)])
        done = index(workspace)
    assert (done.video, done.sound, done.text, done.rejected) == (48, 32, 32, 0)
    return workspace


def names(searcher: Searcher, query: SearchQuery) -> list[str]:
    return [Path(found.uri).name for found in searcher.search(query)]


@pytest.mark.slow
def test_clips_are_found_by_what_they_have(indexed: Workspace, tmp_path: Path) -> None:
    w = indexed
    searcher = Searcher(w)
    found = searcher.search(SearchQuery(text="a blue wall, a high tone", limit=12))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    # Also clips without words, and clips without sound; the result says by what.
    by = {tuple(one.by) for one in searcher.search(SearchQuery(text="a blue wall", limit=48))}
    assert by == {("sound", "text", "video"), ("text", "video"), ("sound", "video")}
    # Filters hold before the best are chosen.
    splits = {row["id"]: row["split"] for row in w.clips().iter_rows(named=True)}
    test = searcher.search(SearchQuery(text="a red wall", split="test", limit=48))
    assert {splits[one.clip_id] for one in test} == {"test"}
    assert len(test) == sum(split == "test" for split in splits.values())
    assert set(names(searcher, SearchQuery(text="a red wall", source="green-high", limit=48))) == {
        f"green-high-{number}.mp4" for number in range(6)
    }
    assert len(searcher.search(SearchQuery(text="a wall", round=0, limit=48))) == 32
    assert searcher.search(SearchQuery(text="a wall", round=7)) == []

    # Again: nothing is left to do. One more: that one alone. A broken one: a row, by its words it is found.
    write(tmp_path / "videos", "red", "low", 90)
    gone = write(tmp_path / "videos", "green", "low", 90)
    with w.lock():
        again = index(w)
        ingest(w, [str(tmp_path / "videos")])
        assert outlook(w).clips == 2
        content = gone.read_bytes()
        gone.write_bytes(b"no longer a video")
        more = index(w)
    assert (again.video, again.sound, again.text) == (0, 0, 0)
    assert (more.model, more.video, more.rejected) == (again.model, 1, 1)
    assert w.rejected(open_only=True)["stage"].to_list() == ["index"]
    assert "green-low-90.mp4" in names(Searcher(w), SearchQuery(text="a green wall, a low tone", limit=50))
    gone.write_bytes(content)
    with w.lock():
        assert index(w).video == 1
    assert w.rejected(open_only=True).is_empty()

    # The command line, and queries that say nothing.
    runner, config = CliRunner(), ["--config", str(w.root)]
    without_speech_and_sheet(w, tmp_path, runner, config)
    printed = runner.invoke(app, ["search", "a red wall", "--limit", "3", "--json", *config])
    [first, *_] = json.loads(printed.stdout)
    assert {"clip_id", "uri", "start_s", "end_s", "score"} <= set(first)
    for words in ([" ", "--config"], ["!!! ...", "--config"]):
        refused = runner.invoke(app, ["search", *words, str(w.root)])
        assert "says no word" in str(refused.exception)
    assert len(Searcher(w).search(SearchQuery(text="wall " * 10_000, limit=3))) == 3
    assert len(Searcher(w).search(SearchQuery(text="eine rote Wand", limit=3))) == 3
    with pytest.raises(UserError, match=r"--sound .*Name a sound"):
        searcher.search(SearchQuery(sound=tmp_path / "videos" / "red-low-0.txt"))
    with pytest.raises(UserError, match=r"--like .*Name a video"):
        searcher.search(SearchQuery(like=tmp_path / "videos" / "red-low-0.txt"))
    silent = next(tmp_path.glob("videos/*-1.mp4"))
    with pytest.raises(UserError, match="no sound"):
        searcher.search(SearchQuery(sound=silent))

    # Half of the clips sound so, a quarter look so.
    other = tmp_path / "other"
    other.mkdir()
    like = names(searcher, SearchQuery(like=write(other, "red", "low", 30), limit=8))
    assert sum("red" in name for name in like) >= 6
    heard = names(searcher, SearchQuery(sound=write(other, "white", "high", 30), limit=8))
    assert sum("high" in name for name in heard) >= 6
    walls = names(searcher, SearchQuery(text="a blue wall", limit=12))
    assert sum("blue" in name for name in walls) >= 10


def without_speech_and_sheet(w: Workspace, folder: Path, runner: CliRunner, config: list[str]) -> None:
    """Sixteen clips have no sound; of the others one was heard to be without speech, and one to have some."""
    clips = {Path(row["uri"]).name: row for row in w.clips().iter_rows(named=True)}
    quiet = {name for name, row in clips.items() if not row["has_audio"]}
    silent, spoken = sorted(set(clips) - quiet)[:2]
    row = {"source": "m", "language": "en", "cues": []}
    with w.lock():
        words = {silent: ["words", ""], spoken: ["", "words"]}
        for name, texts in words.items():
            for text in texts:
                w.records.append(
                    "asr_transcripts",
                    [{**row, "id": f"{name} {text}", "clip_id": clips[name]["id"], "transcript": text}],
                )
    found = names(Searcher(w), SearchQuery(text="<b>a red wall</b>", without_speech=True, limit=50))
    assert set(found) == quiet | {silent}
    # A page of pictures, one of which can't be read any more, whose names and words are no markup.
    gone = Path(clips[found[1]]["uri"])
    content = gone.read_bytes()
    gone.unlink()
    sheet = folder / "sheet.html"
    asked = ["search", "<b>a red wall</b>", "--without-speech", "--limit", "3", "--sheet", str(sheet)]
    printed = runner.invoke(app, [*asked, *config])
    gone.write_bytes(content)
    assert printed.exit_code == 0, printed.exception
    page = sheet.read_text()
    assert (page.count("data:image/jpeg;base64,"), page.count("No picture:")) == (2, 1)
    assert "&lt;b&gt;a red wall&lt;/b&gt;" in page
    assert "://" not in page.replace("file:///", "")
    assert all(name in page for name in found[:3])
    refused = runner.invoke(app, ["search", "a wall", "--sheet", str(folder / "no" / "sheet.html"), *config])
    assert "--sheet" in str(refused.exception)


def test_without_an_index_search_says_what_to_do(make_workspace: Callable[..., Workspace]) -> None:
    w = make_workspace()
    with pytest.raises(UserError, match=r"has no index yet. Make one with 'flywheel index'"):
        Searcher(w)
    with w.lock(), pytest.raises(UserError, match="no clips yet"):
        index(w)


@pytest.fixture
def two(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> Workspace:
    """A workspace with an encoder as it was made, and two clips with words, whose videos are broken."""
    from flywheel.models import encoders
    from flywheel.models.encoder_files import save_encoder

    small = yaml.safe_load(TINY)
    w = make_workspace("index.folder=mine")
    save_encoder(encoders.build("trimodal", **small), w.root / "mine")
    with w.lock():
        w.add_clips([broken(tmp_path, number) for number in range(2)])
    return w


def broken(folder: Path, number: int, words: str = "a dog") -> Clip:
    """A clip with words whose video is gone."""
    file, whole = str(folder / f"{number}.mp4"), {"fps": 25.0, "width": 8, "height": 8, "has_audio": False}
    words_of = {"transcript": words, "sounds": "", "split": "train", "cues": ()}
    return Clip(id=f"c{number}", uri=file, content_hash=f"h{number}", start_s=0.0, end_s=1.0, **whole, **words_of)


def test_what_can_not_be_read_is_no_bar_to_what_is_new(two: Workspace, tmp_path: Path) -> None:
    with two.lock():
        assert index(two).rejected == 2
        # A single new clip that is broken: a row, and the call is done. What it says is found.
        two.add_clips([broken(tmp_path, 2, "a cat")])
        done = index(two)
        assert (done.rejected, done.text) == (3, 1)
        assert len(Searcher(two)) == 3
        # Many, and nothing but those: that is a disk that is away.
        two.add_clips([broken(tmp_path, number) for number in range(3, 13)])
        with pytest.raises(Unreadable, match="10 of 10 clips"):
            index(two)


@pytest.mark.slow
def test_a_text_that_people_rejected_is_gone(two: Workspace) -> None:
    model = encoder_id(two.root / "mine")
    with two.lock():
        index(two)
        assert VectorIndex.open(two, model, 8).has["text"].all()
        two.add_transcripts([("c0", 1, " ", ())])
        assert index(two).text == 0
        assert outlook(two).clips == 2
        assert VectorIndex.open(two, model, 8).has["text"].sum() == 1
        two.add_transcripts([("c0", 2, "a cat", ())])
        assert (index(two).text, index(two).text) == (1, 0)
        assert VectorIndex.open(two, model, 8).has["text"].all()


@pytest.mark.slow
def test_the_encoder_before_is_searched_until_all_vectors_of_the_new_one_are_made(
    tmp_path: Path, make_workspace: Callable[..., Workspace]
) -> None:
    settings = (f"index.sizes={TINY}", "index.steps=1", "index.batch=2", "corpus.most_unreadable=1")
    w = make_workspace(*settings)
    with w.lock():
        w.add_clips([broken(tmp_path, number, f"word{number} here") for number in range(6)])
        first = index(w).model
        assert encoder_folder(w).name == f"encoder-{first}"
        again = make_workspace(*settings, "index.seed=1")
        second = index(again, retrain=True, limit=1).model
        assert (second != first, encoder_folder(again).name) == (True, f"encoder-{first}")
        assert len(Searcher(again)) == 6
        # A third: the one that was to follow goes, and it is the third that does.
        again = make_workspace(*settings, "index.seed=2")
        third = index(again, retrain=True, limit=1).model
        folders = {folder.name for folder in (w.root / "models").glob("encoder-*")}
        assert folders == {f"encoder-{first}", f"encoder-{third}"}
        assert outlook(again).clips == 6
        assert (index(again).model, encoder_folder(again).name) == (third, f"encoder-{third}")
        assert [folder.name for folder in (w.root / "models").glob("encoder-*")] == [f"encoder-{third}"]
        assert Searcher(again).encoder.width == 8

        # A training that was stopped, and clips that came since.
        stopped = w.root / "models" / "encoder-training"
        stopped.mkdir()
        (stopped / "training.safetensors").write_bytes(b"half")
        with pytest.raises(UserError, match="'flywheel index --retrain' deletes it and trains anew"):
            index(again)
        assert index(again, retrain=True).model == third
        assert not stopped.exists()


def test_an_index_of_another_encoder_is_refused(make_workspace: Callable[..., Workspace]) -> None:
    from flywheel.models import encoders
    from flywheel.models.encoder_files import save_encoder
    from flywheel.store.vectors import vector_row

    w = make_workspace("index.folder=mine")
    save_encoder(encoders.build("dual", width=16, hidden=16), w.root / "mine")
    with w.lock():
        w.add_vectors([vector_row("another", "video", "c1", np.ones(32, np.float32))])
    with pytest.raises(UserError, match=r"has no vectors of encoder \w+ \(1 are of another encoder\)"):
        Searcher(w)
    with w.lock():
        from flywheel.models.encoder_files import encoder_id

        w.add_vectors([vector_row(encoder_id(w.root / "mine"), "video", "c1", np.ones(16, np.float32) / 4)])
    with pytest.raises(UserError, match=r"knows no texts\. Search with --like FILE or --sound FILE"):
        Searcher(w).search(SearchQuery(text="a dog"))

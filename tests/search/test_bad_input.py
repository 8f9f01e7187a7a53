"""What can't be searched or indexed is said in one line, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from flywheel.cli.review import _ContentSearch
from flywheel.core.errors import BorderError, FlywheelError, UserError
from flywheel.core.types import Clip, content_id
from flywheel.media.encode import Quality, write_video
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, save_encoder
from flywheel.search.for_page import PageSearch
from flywheel.search.indexing import index, outlook
from flywheel.search.searching import Searcher, SearchQuery
from flywheel.store import Workspace
from flywheel.store.vectors import vector_row
from flywheel.store.vectors_in_use import GIVEN_ENCODER, vectors_in_use
from tests.store.test_view import sound_version

SMALL = yaml.safe_load(
    "{width: 8, heads: 2, layers: 1, decoder_width: 8, frames: 1, frame_size: 8, patch: 8, bands: 8, times: 8, "
    "sound_patch: 8, words: 4, vocabulary: 64}"
)


def clip(number: int, folder: Path) -> Clip:
    facts = {"fps": 25.0, "width": 8, "height": 8, "has_audio": False, "sounds": "", "split": "train", "cues": ()}
    file = str(folder / f"{number}.mp4")
    return Clip(
        id=f"c{number}",
        uri=file,
        content_hash=f"h{number}",
        start_s=0.0,
        end_s=1.0,
        transcript=f"word{number}",
        **facts,
    )


@pytest.fixture
def searched(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> Workspace:
    """A workspace with an encoder and vectors of four clips."""
    w = make_workspace("index.folder=mine")
    save_encoder(encoders.build("trimodal", **SMALL), w.root / "mine")
    model, rng = encoder_id(w.root / "mine"), np.random.default_rng(0)
    with w.lock():
        w.add_clips([clip(number, tmp_path) for number in range(4)])
        vectors = rng.normal(size=(4, 8)).astype(np.float32)
        w.add_vectors([vector_row(model, "text", f"c{number}", v) for number, v in enumerate(vectors)])
    return w


def test_any_words_are_asked_and_none_are_refused(searched: Workspace) -> None:
    searcher = Searcher(searched)
    for text in ("eine rote Wand", "красная стена", "一面红色的墙", "wall " * 10_000, "x" * 200_000):
        assert len(searcher.search(SearchQuery(text=text, limit=3))) == 3
    for text in ("", "  \n", "!!! …", "\x00"):
        with pytest.raises(UserError, match="says no word") as caught:
            searcher.search(SearchQuery(text=text))
        assert "\n" not in str(caught.value)


def test_without_speech_is_refused_where_nobody_knows(searched: Workspace) -> None:
    assert len(Searcher(searched).search(SearchQuery(text="a wall", without_speech=True))) == 4
    with searched.lock():
        searched.records.rewrite("clips", lambda frame: frame.with_columns(has_audio=True))
    with pytest.raises(UserError, match="Run 'flywheel transcribe' first"):
        Searcher(searched).search(SearchQuery(text="a wall", without_speech=True))


def test_a_tenth_of_a_second_of_sound_is_asked_with(searched: Workspace, tmp_path: Path) -> None:
    sound = (np.sin(np.arange(1600) / 5).astype(np.float32) * 0.3, 16_000)
    frame, file = np.zeros((32, 32, 3), np.uint8), tmp_path / "short.mp4"
    write_video(
        file, [frame], size=(32, 32), fps=10, quality=Quality(crf=28, preset="ultrafast", threads=1), sound=sound
    )
    searcher = Searcher(searched)
    assert len(searcher.search(SearchQuery(sound=file, limit=3))) == 3
    assert len(searcher.search(SearchQuery(like=file, limit=3))) == 3


def test_a_page_names_no_option_and_sees_vectors_that_were_exchanged(searched: Workspace, tmp_path: Path) -> None:
    page = PageSearch(searched)
    with pytest.raises(UserError) as caught:
        page.find("!!!", "", None, 3)
    assert "says no word" in str(caught.value)
    assert "--" not in str(caught.value)
    assert set(page.find("a wall", "", None, 9)) == {"c0", "c1", "c2", "c3"}
    row = vector_row(encoder_id(searched.root / "mine"), "text", "c9", np.ones(8, np.float32))
    with searched.lock():
        searched.add_clips([clip(9, tmp_path)])
        searched.records.remove({"vectors": pl.col("clip_id") == "c2"})
        searched.add_vectors([row])
    assert searched.count("vectors") == 4
    assert set(page.find("a wall", "", None, 9)) == {"c0", "c1", "c3", "c9"}


def test_the_page_asks_by_content_where_the_encoder_knows_texts(
    searched: Workspace, make_workspace: Callable[..., Workspace]
) -> None:
    assert _ContentSearch(searched).ready()
    save_encoder(encoders.build("dual", width=16, hidden=16), searched.root / "mine")
    assert not _ContentSearch(searched).ready()
    (searched.root / "mine" / "encoder.json").unlink()
    assert not _ContentSearch(searched).ready()


def test_vectors_of_a_folder_that_is_named_no_more_are_not_in_use(searched: Workspace) -> None:
    model = encoder_id(searched.root / "mine")
    with searched.lock():
        searched.set_meta(GIVEN_ENCODER, model)
    found = vectors_in_use(searched)
    assert found is not None
    assert len(found) == 4
    save_encoder(encoders.build("trimodal", **SMALL), searched.root / "other")
    other = Workspace.open(searched.root, ["tracking.enabled=false", "index.folder=other"])
    assert vectors_in_use(other) is None
    other.database.close()
    other = Workspace.open(searched.root, ["tracking.enabled=false", "index.folder=gone"])
    assert vectors_in_use(other) is None
    other.database.close()


@pytest.mark.parametrize("vector", [np.ones(4, np.float32), np.full(8, np.nan, np.float32)], ids=["dimension", "nan"])
def test_vectors_of_another_dimension_or_no_numbers_are_refused(searched: Workspace, vector: np.ndarray) -> None:
    Searcher(searched)
    with searched.lock():
        searched.add_vectors([vector_row(encoder_id(searched.root / "mine"), "video", "c1", vector)])
    with pytest.raises(BorderError, match=r"another width than 8, or no numbers.*'flywheel index --retrain'") as caught:
        Searcher(searched)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_gives_no_numbers_adds_no_vector(searched: Workspace, tmp_path: Path) -> None:
    import torch

    broken = encoders.build("trimodal", **SMALL)
    with torch.no_grad():
        for weight in broken.parameters():
            weight.fill_(float("nan"))
    save_encoder(broken, searched.root / "mine")
    before = searched.count("vectors")
    with searched.lock(), pytest.raises(UserError, match="vectors of text that are no numbers"):
        index(searched)
    assert searched.count("vectors") == before


@pytest.mark.parametrize("what", ["none", "empty", "other", "torn"])
def test_a_folder_that_is_no_encoder_is_one_line(searched: Workspace, what: str) -> None:
    folder = searched.root / "mine"
    if what == "torn":
        file = next(folder.glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:100])
    else:
        for file in folder.iterdir():
            file.unlink()
        if what == "none":
            folder.rmdir()
        elif what == "other":
            (folder / "config.json").write_text('{"model_type": "clip"}')
    for attempt in (lambda: Searcher(searched), lambda: index(searched)):
        with searched.lock(), pytest.raises(FlywheelError) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "mine" in str(caught.value)


def test_a_batch_of_one_and_a_corpus_of_one_are_one_line(
    tmp_path: Path, make_workspace: Callable[..., Workspace]
) -> None:
    with pytest.raises(UserError, match=r"index\.batch.*2"):
        make_workspace("index.batch=1")
    w = make_workspace(f"index.sizes={SMALL}", "index.steps=1", "index.batch=2", "corpus.most_unreadable=1")
    with w.lock():
        w.add_clips([clip(0, tmp_path)])
        with pytest.raises(UserError, match=r"clips") as caught:
            index(w)
        assert "\n" not in str(caught.value)
        w.add_clips([clip(number, tmp_path) for number in range(1, 5)])
        assert index(w).text == 5


def test_a_full_disk_under_the_vectors_ends_with_one_line_and_goes_on_later(
    searched: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with searched.lock():
        searched.add_clips([clip(9, tmp_path)])
        with monkeypatch.context() as disk:
            disk.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(BorderError, match=r"Free space on the disk and run the same command") as caught:
                index(searched)
            assert "\n" not in str(caught.value)
        assert len(Searcher(searched)) == 4
        assert index(searched).text == 5
        # Neither in the workspace nor elsewhere is there room for the files that searches read.
        searched.add_clips([clip(10, tmp_path)])
        with monkeypatch.context() as disk:
            disk.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            assert index(searched).text == 1
        assert "the files that searches read were not made" in capsys.readouterr().err
    assert len(Searcher(searched)) == 6


def test_a_sound_edited_before_its_first_vector_has_one_vector(searched: Workspace, tmp_path: Path) -> None:
    w, model = searched, encoder_id(searched.root / "mine")
    vector = np.ones(8, np.float32)
    edited = sound_version("c9", "v1")
    with w.lock():
        w.add_clips([replace(clip(9, tmp_path), has_audio=True)])
        w.add_vectors([vector_row(model, "video", f"c{number}", vector) for number in (0, 1, 2, 3, 9)])
        w.add_vectors(
            [
                vector_row(model, "text", f"c{number}", vector, content_id("text", f"word{number}"), 1)
                for number in (0, 1, 2, 3, 9)
            ]
        )
        assert outlook(w).clips == 1, "its sound"
        w.add_sound_versions([edited])
        assert outlook(w).clips == 1
        w.add_vectors([vector_row(model, "sound", "c9", vector, "v1", 0)])
        assert outlook(w).clips == 0
        w.add_sound_versions([replace(edited, id="later", version="", outcome="undone")])
        assert outlook(w).clips == 1, "its original's"

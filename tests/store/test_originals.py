"""A file that was replaced under its name is no longer the clip; one that was only touched is, and is read once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.errors import MediaError
from flywheel.ingest import ingest
from flywheel.store import Workspace
from flywheel.store.view import clip_of


@pytest.fixture
def two(corpus: Path, tmp_path: Path, make_workspace: Callable[..., Workspace]) -> tuple[Workspace, Path]:
    """A workspace with one clip, and the folder of its file; another video lies beside the corpus."""
    videos = sorted((corpus / "corpus").glob("*.mp4"))
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy2(videos[0], folder / "a.mp4")
    shutil.copy2(videos[1], tmp_path / "other.mp4")
    workspace = make_workspace()
    with workspace.lock():
        assert ingest(workspace, [str(folder)]).clips == 1
    return workspace, folder / "a.mp4"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole."""
    from flywheel.store import originals

    read: list[Path] = []
    whole = originals.file_hash
    monkeypatch.setattr(originals, "file_hash", lambda path: (read.append(path), whole(path))[1])
    return read


def test_the_cache_holds_no_new_frames_under_an_old_content(two: tuple[Workspace, Path], tmp_path: Path) -> None:
    w, file = two
    clip = clip_of(w.clips().to_dicts()[0])
    old = w.cache.frames(clip.uri, clip.content_hash, [0.1], 64)
    os.replace(tmp_path / "other.mp4", file)
    for reading in (
        lambda: w.cache.frames(clip.uri, clip.content_hash, [0.2], 64),
        lambda: w.cache.sound(clip.uri, clip.content_hash, 0.0, 0.5),
    ):
        with pytest.raises(MediaError, match="holds another video than when it was added"):
            reading()
    assert len(list(w.cache.folder.rglob("*.npy"))) == 1
    assert (w.cache.frames(clip.uri, clip.content_hash, [0.1], 64) == old).all(), "what was decoded before stays right"
    # Taken in again, the new video is a clip of its own, and the old one stays a reject.
    with w.lock():
        assert ingest(w, [str(file)]).clips == 1
    new = next(c for c in map(clip_of, w.clips().to_dicts()) if c.id != clip.id)
    assert new.uri == clip.uri
    w.cache.frames(new.uri, new.content_hash, [0.1], 64)
    with pytest.raises(MediaError, match="another video"):
        w.cache.frames(clip.uri, clip.content_hash, [0.3], 64)
    file.unlink()
    with pytest.raises(MediaError, match="gone"):
        w.cache.frames(clip.uri, clip.content_hash, [0.3], 64)


def test_a_replacement_while_it_is_decoded_is_not_kept(
    two: tuple[Workspace, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel.store import cache

    w, file = two
    clip = clip_of(w.clips().to_dicts()[0])
    decode = cache.read_frames

    def replaced(path: Path, *arguments: object, **options: object) -> object:
        os.replace(tmp_path / "other.mp4", file)
        return decode(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "read_frames", replaced)
    with pytest.raises(MediaError, match="another video"):
        w.cache.frames(clip.uri, clip.content_hash, [0.1], 64)
    assert not list(w.cache.folder.rglob("*.npy"))


def test_a_touched_file_is_read_once_and_an_untouched_one_never(
    two: tuple[Workspace, Path], read: list[Path], make_workspace: Callable[..., Workspace]
) -> None:
    w, file = two
    clip = clip_of(w.clips().to_dicts()[0])
    w.originals.check(clip.uri, clip.content_hash)
    assert read == []
    os.utime(file, (1e9, 1e9))
    for _ in range(2):
        w.originals.check(clip.uri, clip.content_hash)
    assert read == [file]
    make_workspace().originals.check(clip.uri, clip.content_hash)
    assert read == [file], "its new time is on record"

"""A takedown by a path that was killed at its end is finished by the same command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from flywheel.core.errors import UserError
from flywheel.rounds.takedown import Takedown, planned, take_down, would_take_down
from flywheel.store import Workspace
from flywheel.store.takedowns import Takedowns
from flywheel.store.videos import Video
from tests.store.test_view import clip

Make = Callable[..., Workspace]


class Killed(BaseException):
    pass


def killed(*_: object) -> NoReturn:
    raise Killed


def taken(w: Workspace, name: str, rewrite: Callable[[], None] = lambda: None) -> Takedown:
    with w.lock():
        return take_down(w, [name], "asked for", rewrite=rewrite)


@pytest.fixture
def workspace(make_workspace: Make, tmp_path: Path) -> Workspace:
    """Two clips of a file, one of the same video in another container, and one of another video."""
    w = make_workspace()
    film, copy, other = (str(tmp_path / name) for name in ("film.mp4", "film.mkv", "other.mp4"))
    times = {"start_s": 0.0, "end_s": 2.0}
    clips = [replace(clip(n), uri=film, content_hash="f" * 32, start_s=2.0 * n, end_s=2.0 * n + 2) for n in (0, 1)]
    clips += [replace(clip(2), uri=copy, content_hash="e" * 32, **times)]
    clips += [replace(clip(3), uri=other, content_hash="d" * 32, **times)]
    with w.lock():
        w.videos.add([Video(content_hash=x * 32, streams="same", family="", side="train") for x in "fe"])
        w.add_clips(clips)
    export = tmp_path / "export"
    export.mkdir()
    w.add_export(export, 1, [clips[1].id])
    return w


@pytest.mark.parametrize("moment", ["locations", "clips"])
def test_by_its_path(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    film, w = str(tmp_path / "film.mp4"), workspace
    if moment == "locations":
        remove = w.records.remove
        monkeypatch.setattr(w.records, "remove", lambda where: killed() if "clips" in where else remove(where))
    if moment == "clips":
        remove_clips = Takedowns.remove_clips
        monkeypatch.setattr(Takedowns, "remove_clips", lambda *a, **k: killed(remove_clips(*a, **k)))
    with pytest.raises(Killed):
        taken(w, film, killed)
    monkeypatch.undo()
    # Somebody takes another dataset away to the same folder meanwhile.
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "other").touch()
    w.add_export(tmp_path / "export", 1, [clip(3).id])
    assert len(would_take_down(w, planned(w, [film], "asked for")).clips) == 3
    rewritten = list[str]()
    found = taken(w, film, lambda: rewritten.append("again"))
    assert found.clips == sorted(clip(n).id for n in range(3))
    assert found.overlapping == [clip(2).id], "also what no name means"
    assert (found.exports, found.files) == ([str(tmp_path / "export")], [str(tmp_path / "film.mkv"), film])
    assert rewritten == ["again"]
    assert w.clips()["id"].to_list() == [clip(3).id]
    assert (tmp_path / "export" / "other").exists()
    assert w.exports() != []
    with pytest.raises(UserError, match="names no clips"):
        taken(w, film)
    assert w.meta("takedowns_unfinished") == "[]", "nor is its name kept any longer"


def test_an_interrupted_one_is_finished_by_any_name_of_its_clips_and_by_no_other(
    workspace: Workspace, tmp_path: Path
) -> None:
    film, other, w = str(tmp_path / "film.mp4"), str(tmp_path / "other.mp4"), workspace
    with pytest.raises(Killed):
        taken(w, film, killed)
    assert taken(w, other).clips == [clip(3).id]
    assert "film.mp4" in str(w.meta("takedowns_unfinished"))
    assert len(taken(w, clip(0).id).clips) == 3
    assert w.meta("takedowns_unfinished") == "[]"

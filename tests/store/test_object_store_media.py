"""Media of a workspace on an object store: what a commit costs, where hosts find them, and when copies of them go."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flywheel.core.types import Clip
from flywheel.store import Workspace, copies, mirror
from flywheel.store.copies import Copy, Index
from flywheel.store.objects import Objects
from tests.store.test_view import clip


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Workspace]]:
    """Opens one workspace, in fsspec's store in memory, as another host; the database is a file for all."""
    url, opened = f"memory://{tmp_path.name}/w", list[Workspace]()

    def at(host: str) -> Workspace:
        monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / host))
        mirror._mirror.cache_clear()
        opened.append(Workspace.open(url))
        return opened[-1]

    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "a"))
    config = {"store": {"database": f"sqlite:///{tmp_path / 'all.db'}"}, "tracking": {"enabled": False}}
    Workspace.create(url, json.dumps(config))
    yield at
    for workspace in opened:
        workspace.database.close()
    fsspec.filesystem("memory").store.clear()


def filmed(workspace: Workspace, number: int) -> Clip:
    """A clip whose video, of its number as bytes, lies in the workspace."""
    media = workspace.root / "media"
    media.mkdir(exist_ok=True)
    (media / f"{number}.mp4").write_text(str(number))
    return replace(clip(number), uri=str(media / f"{number}.mp4"))


def test_a_commit_of_clips_costs_what_is_new(on: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    requests: Counter[str] = Counter()
    for name in ("listing", "put", "get", "has"):
        work = getattr(Objects, name)

        def counted(*arguments: Any, name: str = name, work: Any = work, **named: Any) -> Any:
            requests[name] += 1
            return work(*arguments, **named)

        monkeypatch.setattr(Objects, name, counted)
    with a.lock():
        a.add_clips([filmed(a, number) for number in range(40)])
        index = a.root / copies.INDEX_FILE
        before = index.stat().st_size
        walks: list[object] = []
        monkeypatch.setattr(mirror.os, "walk", lambda *_: walks.append(0) or iter(()))
        requests.clear()
        a.add_clips([filmed(a, 40), filmed(a, 3)])
        assert requests == {"put": 2}, "the new video and the shard that names it"
        assert not walks
        assert 0 < index.stat().st_size - before < 100, "a line for the new one"
        monkeypatch.undo()
    assert {n for n in Objects(mirror.mirror_of(a.root).url).listing() if n.startswith("media/")} == {
        f"media/{number}.mp4" for number in range(41)
    }


def test_the_index_of_copies_holds_through_changes_cut_lines_and_other_processes(tmp_path: Path) -> None:
    first, second = Index(tmp_path), Index(tmp_path)
    one, two = (Copy(version=str(n), size=n, changed_ns=n) for n in (1, 2))
    first.note("a", one)
    first.note("b", one)
    first.keep()
    second.refresh()
    second.note("a", two)
    second.note("b", None)
    second.keep()
    with (tmp_path / copies.INDEX_FILE).open("a") as file:
        file.write('["c", "1", 1')
    first.refresh()
    assert first.copies == {"a": two}
    first.note("d", one)
    first.keep()
    assert Index(tmp_path).copies == {"a": two, "d": one}
    # As versions before wrote it.
    (tmp_path / copies.INDEX_FILE).write_text('{"x": ["1", 1, 1]}')
    first.refresh()
    assert first.copies == {"x": one}
    first.note("a", two)
    first.keep()
    assert Index(tmp_path).copies == {"x": one, "a": two}


def test_the_index_does_not_grow_with_changes_of_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_SPARE_LINES", 4)
    index = Index(tmp_path)
    for number in range(50):
        index.note("a", Copy(version=str(number), size=number, changed_ns=number))
        index.keep()
    assert len((tmp_path / copies.INDEX_FILE).read_text().split()) < 40
    assert Index(tmp_path).copies == index.copies

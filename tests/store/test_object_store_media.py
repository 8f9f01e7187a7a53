"""Media of a workspace on an object store: what a commit costs, where hosts find them, and when copies of them go."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from flywheel.core.errors import MediaError
from flywheel.core.types import Clip
from flywheel.store import Workspace, copies, mirror, objects, originals, records, writing
from flywheel.store.copies import Copy, Index
from flywheel.store.objects import Objects
from flywheel.store.sources import videos_at
from tests.store.test_view import clip


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Workspace]]:
    """Opens one workspace, in fsspec's store in memory, as another host; the database is a file for all."""
    url, opened = f"memory://{tmp_path.name}/w", list[Workspace]()

    def at(host: str) -> Workspace:
        monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / host))
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
    return replace(clip(number), uri=str(media / f"{number}.mp4"), content_hash=digest(str(number)))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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

        def walked(*_: Any) -> Iterator[Any]:
            walks.append(0)
            return iter(())

        monkeypatch.setattr(os, "walk", walked)
        requests.clear()
        a.add_clips([filmed(a, 40), filmed(a, 3)])
        assert requests == {"put": 2}, "the new video and the shard that names it"
        assert not walks
        assert 0 < index.stat().st_size - before < 100, "a line for the new one"
        monkeypatch.undo()
    store = mirror.mirror_of(a.root)
    assert store is not None
    assert {name for name in store.objects.listing() if name.startswith("media/")} == {
        f"media/{number}.mp4" for number in range(41)
    }


def test_hosts_with_caches_in_different_places_read_the_same_media(on: Callable[[str], Workspace]) -> None:
    a = on("a")
    outside = replace(clip(7), uri="/videos/./7.mp4")
    with a.lock():
        a.add_clips([filmed(a, 1), outside])
        a.locate({digest("1"): str(a.root / "media" / "1.mp4"), "h7": outside.uri}, {digest("1"): (1, 2_000)})
        a.add_rejected(round=0, stage="ingest", uri=str(a.root / "media" / "2.mp4"), clip_id="", reason="cut off")
    b = on("b")
    assert b.root != a.root
    place = str(b.root / "media" / "1.mp4")
    for frame in (b.clips(), *b.clip_batches(), b.clips_by_id(["c1", "c7"]), b.records.read("clips")):
        assert sorted(frame["uri"]) == sorted([place, outside.uri])
    assert not Path(place).exists(), "it comes when it is read"
    b.originals.check(place, digest("1"))
    assert Path(place).read_text() == "1"
    assert b.rejected()["uri"].to_list() == [str(b.root / "media" / "2.mp4")]
    assert b.clips_at([place])["id"].to_list() == b.clips_named("1.mp4")["id"].to_list() == ["c1"]
    assert b.find_clips(place)["id"].to_list() == ["c1"]
    assert dict(b.places([digest("1"), "h7"])) == {digest("1"): place, "h7": outside.uri}
    for folder in (b.root, b.root / "media", b.root.parent):
        assert set(videos_at(b, [str(folder)])) == {digest("1")}
    assert set(videos_at(b, ["/videos"])) == {"h7"}
    with b.lock():
        # Written anew by another host, and read by the first.
        assert b.records.rewrite("clips", lambda frame: frame.with_columns(width=pl.lit(7, pl.Int64))) == 2
    again = on("a").clips()
    assert again["uri"].to_list() == [str(a.root / "media" / "1.mp4"), outside.uri]
    assert again["width"].to_list() == [7, 7]


def test_a_host_forgets_what_another_took_down_when_it_opens_the_workspace(on: Callable[[str], Workspace]) -> None:
    a = on("a")
    with a.lock():
        a.add_clips([filmed(a, 1), filmed(a, 2)])
    b = on("b")
    cached = b.root / "cache" / "frames" / "picture"
    for workspace in (a, b):
        (workspace.root / "cache" / "frames").mkdir(parents=True)
        (workspace.root / "cache" / "frames" / "picture").write_text("of 1")
    with a.lock():
        a.takedowns.note({"c1"}, "asked for", {})
        on("b")
        assert not cached.exists()
        cached.parent.mkdir()
        cached.write_text("of 1, as it was still there")
        a.discard(a.root / "media" / "1.mp4")
        a.takedowns.remove_clips({"c1"})
    b = on("b")
    assert not cached.exists()
    assert not (b.root / "media" / "1.mp4").exists()
    cached.parent.mkdir()
    cached.write_text("of 2")
    on("b")
    assert cached.exists(), "once for each takedown"


def test_videos_come_when_they_are_read_and_have_the_time_on_record(
    on: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on("a")
    with a.lock():
        a.add_clips(clips := [filmed(a, number) for number in range(3)])
        stamps = {c.content_hash: Path(c.uri).stat() for c in clips}
        a.locate({c.content_hash: c.uri for c in clips}, {h: (s.st_size, s.st_mtime_ns) for h, s in stamps.items()})
    b = on("b")
    media = b.root / "media"
    assert not media.exists()
    b.originals.check(media / "1.mp4", digest("1"))
    assert [p.name for p in media.iterdir()] == ["1.mp4"]
    assert (media / "1.mp4").stat().st_mtime_ns == stamps[digest("1")].st_mtime_ns
    with pytest.raises(MediaError, match="gone"):
        b.originals.check(media / "9.mp4", digest("9"))
    with pytest.raises(MediaError, match="another video"):
        b.originals.check(media / "2.mp4", digest("1"))
    # Another process of this host believes it as it is.
    monkeypatch.setattr(originals, "file_hash", lambda path: pytest.fail("it was read again"))
    on("b").originals.check(media / "1.mp4", digest("1"))
    # Space that a host frees is no takedown.
    (media / "1.mp4").unlink()
    b = on("b")
    with b.lock():
        (media / "2.mp4").unlink()
    assert {f"media/{n}.mp4" for n in range(3)} <= set(Objects(str(b.url)).listing()), "published, and still there"
    with b.lock():
        b.discard(media / "0.mp4")
    assert "media/0.mp4" not in Objects(str(b.url)).listing(), "though this host never had it"
    on("a")
    assert not (a.root / "media" / "0.mp4").exists()


def test_whole_paths_that_versions_before_wrote_are_read(
    on: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on("a")
    with monkeypatch.context() as patch, a.lock():
        patch.setattr(records, "put_on_record", lambda root, frame: frame)
        patch.setattr(writing, "on_record", lambda root, path: path)
        a.add_clips([filmed(a, 1)])
    place = str(a.root / "media" / "1.mp4")
    assert a.clips_at([place])["id"].to_list() == ["c1"]
    b = on("b")
    inner = str(b.root / "media" / "1.mp4")
    assert b.clips()["uri"].to_list() == [inner], "of a host with another folder for the same workspace"
    assert b.clips_at([inner])["id"].to_list() == b.clips_named("1.mp4")["id"].to_list() == ["c1"]


def test_a_workspace_that_was_moved_finds_its_media(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "w$1", "tracking: {enabled: false}")
    workspace = Workspace.open(tmp_path / "w$1")
    with workspace.lock():
        workspace.add_clips([filmed(workspace, 1)])
    workspace.database.close()
    (tmp_path / "w$1").rename(tmp_path / "v$0")
    workspace = Workspace.open(tmp_path / "v$0")
    assert workspace.clips()["uri"].to_list() == [f"{tmp_path}/v$0/media/1.mp4"]
    workspace.database.close()


def test_a_404_of_what_is_listed_or_was_just_written_is_doubted(
    on: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(objects, "WAIT_S", 0.001)
    a = on("a")
    store = mirror.mirror_of(a.root)
    assert store is not None
    (a.root / "models").mkdir()
    (a.root / "models" / "weights").write_text("1")
    info, answers = store.objects._fs.info, list[bool]()

    def at_times(path: str, **named: Any) -> Any:
        if path.endswith("weights") and answers and not answers.pop():
            raise FileNotFoundError(path)
        return info(path, **named)

    monkeypatch.setattr(store.objects._fs, "info", at_times)
    answers[:] = [True, False, False]
    store.publish()
    assert store.objects.num_retries == 2
    assert capsys.readouterr().err.count("write failed") == 2
    (a.root / "models" / "weights").unlink()
    answers[:] = [True, False, False]
    store.pull()
    assert (a.root / "models" / "weights").read_text() == "1"
    assert store.objects.num_retries == 4
    answers[:] = [False]
    with pytest.raises(FileNotFoundError):
        store.objects.get("models/weights", a.root / "copy")
    assert store.objects.num_retries == 4, "who only asks whether it is there is told so"


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


def test_a_cache_on_its_way_out_is_no_part_of_the_store() -> None:
    for name in (".cache.ab12cd34.part/", ".cache.ab12cd34.part/frames/aa/x.npy", "media/.x.mp4.ab12cd34.part"):
        assert not mirror.Mirror._is_shared(name)
    assert mirror.Mirror._is_shared("models/round=001/model/config.json")

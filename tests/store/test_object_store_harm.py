"""What others write into an object store, or leave half done there, harms no workspace on it."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flywheel.cli.start import init
from flywheel.core.errors import BorderError, UserError
from flywheel.ingest import ingest, remote
from flywheel.ingest.remote import fetched
from flywheel.rounds import takedown
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace, copies, mirror, objects, opening
from flywheel.store.database import has_open_password
from flywheel.store.ledger import Ledger
from flywheel.store.mirror import Mirror
from flywheel.store.objects import Entry, Objects
from flywheel.store.takedowns import Takedowns
from flywheel.store.videos import Video
from tests.store.test_view import clip


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def killed(*_: Any) -> None:
    raise Killed


def refused(*_: Any) -> None:
    raise BorderError("the store does not answer")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Mirror]]:
    """Two hosts' copies of one place, in fsspec's store in memory."""
    roots = [tmp_path / "host-a", tmp_path / "host-b"]
    for root in roots:
        root.mkdir()
    yield [Mirror(f"memory://{tmp_path.name}/w", root) for root in roots]
    fsspec.filesystem("memory").store.clear()


def test_an_object_s_name_leads_nowhere_else(hosts: list[Mirror], tmp_path: Path) -> None:
    a, b = hosts
    (a.root / "models").mkdir()
    (a.root / "models" / "weights").write_text("1")
    a.publish()
    raw = b.objects._fs
    raw.store[f"/{b.objects._base}/models/"] = raw.store[f"/{b.objects._base}/models/weights"]
    assert set(b.objects.listing()) == {"models/weights"}, "what a console writes for a folder is no file"
    for name in (f"/{tmp_path}/out", "../out", "models/../../out", "models//out"):
        place = f"/{b.objects._base}/{name}"
        raw.store[place] = raw.store[f"/{b.objects._base}/models/weights"]
        with pytest.raises(UserError, match="no file's name below a folder"):
            b.pull()
        with pytest.raises(UserError, match="no file's name below a folder"):
            fetched(b.url, tmp_path / "media")
        del raw.store[place]
    assert not (tmp_path / "out").exists()
    b.pull()
    assert (b.root / "models" / "weights").exists()


def test_what_was_fetched_of_a_source_is_on_record_at_once(
    hosts: list[Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = hosts
    names = ["b.mp4", "c.mp4", "a/d.mp4", "a/d.txt", ".e.mp4"]
    for name in names:
        (a.root / name).parent.mkdir(exist_ok=True)
        (a.root / name).write_text(name)
        a.objects.put(a.root / name, name)
    get, fetches = Objects.get, list[str]()

    def one_then_killed(objects: Objects, name: str, file: Path, **named: bool) -> Entry:
        if fetches:
            raise Killed
        fetches.append(name)
        return get(objects, name, file, **named)

    def counted(objects: Objects, name: str, file: Path, **named: bool) -> Entry:
        fetches.append(name)
        return get(objects, name, file, **named)

    monkeypatch.setattr(remote, "_THREADS", 1)
    monkeypatch.setattr(Objects, "get", one_then_killed)
    with pytest.raises(Killed):
        fetched(a.url, tmp_path / "media")
    [record] = (tmp_path / "media").rglob(remote._FETCHED)
    assert len(record.read_text().splitlines()) == 1
    with record.open("a") as file:
        file.write('["b.mp4", "cut o')
    monkeypatch.setattr(Objects, "get", counted)
    folder = fetched(a.url, tmp_path / "media", most=1)
    assert sorted(fetches) == [".e.mp4", "a/d.txt", "b.mp4"], "a folder's files come before its folders"
    fetched(a.url, tmp_path / "media")
    assert sorted(fetches) == sorted(names), "each once"
    assert (folder / "a" / "d.mp4").read_text() == "a/d.mp4"
    (a.root / "metadata.csv").write_text("file_name")
    a.objects.put(a.root / "metadata.csv", "metadata.csv")
    assert set(remote._first(a.objects.listing(), 1)) == {*names, "metadata.csv"}, "it may name any of them"


def test_a_dry_run_over_a_store_asks_how_many_to_look_at(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "w", "")
    workspace = Workspace.open(tmp_path / "w")
    with pytest.raises(UserError, match="Say with --limit"):
        ingest(workspace, ["memory://none/videos"], dry_run=True)
    workspace.database.close()


def test_a_file_that_another_host_wrote_meanwhile_is_brought_and_goes_with_it(hosts: list[Mirror]) -> None:
    a, b = hosts
    b.pull()
    (a.root / "media").mkdir()
    (a.root / "media" / "v.mp4").write_text("1")
    a.publish()
    for name in ("media/v.mp4", "media/none.mp4", "cache/own"):
        b.bring(name)
    assert (b.root / "media" / "v.mp4").read_text() == "1"
    assert b.publish() == 0
    a.discard("media/v.mp4")
    b.pull()
    assert not (b.root / "media" / "v.mp4").exists(), "what was taken down comes back from nowhere"


def test_a_second_workspace_at_a_url_is_refused(hosts: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    url = hosts[0].url
    monkeypatch.setenv("FLYWHEEL_CACHE", str(hosts[0].root / "hosts"))
    Workspace.create(url, "a: 1")
    for text in ("a: 1", "a: 2"):
        with pytest.raises(UserError, match="exists already"):
            Workspace.create(url, text)
    # It came between the look and the write.
    monkeypatch.setattr(Objects, "has", lambda *_: False)
    with pytest.raises(UserError, match="exists already"):
        Workspace.create(url, "a: 2")


def test_whose_copies_a_folder_has_is_never_half_said(hosts: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    url = hosts[0].url
    monkeypatch.setenv("FLYWHEEL_CACHE", str(hosts[0].root / "hosts"))
    Workspace.create(url, "{}")
    folder = opening.opened(url)
    before = (folder / mirror.URL_FILE).stat()
    opening.opened(url)
    after = (folder / mirror.URL_FILE).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino), "not written again"
    (folder / mirror.URL_FILE).write_text("")
    with pytest.raises(UserError, match="is empty"):
        mirror.mirror_of(folder)
    opening.opened(url)
    assert (found := mirror.mirror_of(folder)) is not None
    assert found.url == url


def test_a_password_does_not_go_into_a_bucket(hosts: list[Mirror], tmp_path: Path) -> None:
    for address in ("postgresql://u:pa$$word@h/n", "postgresql://u:x$Y@h/n", "postgresql://u@h/n?password=word"):
        with pytest.raises(UserError, match="password would lie in"):
            init(Path(hosts[0].url), database=address)
    assert not hosts[0].objects.listing()
    assert not has_open_password("postgresql://u:$PASSWORD@h/n")
    assert not has_open_password("postgresql://u:${PASSWORD}@h/n")
    assert not has_open_password("postgresql://u@h/n")


@pytest.fixture
def on_sqlite(
    hosts: list[Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Workspace]]:
    """Opens the workspace at the place as another host; the database is a file for all."""
    url = hosts[0].url
    opened: list[Workspace] = []

    def at(host: str) -> Workspace:
        monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / host))
        opened.append(Workspace.open(url))
        return opened[-1]

    monkeypatch.setenv("FLYWHEEL_CACHE", str(tmp_path / "a"))
    Workspace.create(url, json.dumps({"store": {"database": f"sqlite:///{tmp_path / 'all.db'}"}}))
    yield at
    for workspace in opened:
        workspace.database.close()


def test_killed_before_the_mark_is_in_the_database_others_open_it_all_the_same(
    on_sqlite: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "set_first", killed)
        with pytest.raises(Killed):
            on_sqlite("a")
    on_sqlite("b")
    on_sqlite("a")


@pytest.mark.slow
def test_what_is_taken_down_left_the_store_before_its_clip_left_the_records(
    hosts: list[Mirror], on_sqlite: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = on_sqlite("a")
    film = w.root / "media" / "film.mp4"
    with w.lock():
        film.parent.mkdir()
        film.write_bytes(b"film")
        w.add_clips([replace(clip(0), uri=str(film))])
    store = Objects(hosts[0].url)
    assert store.has("media/film.mp4")

    def down() -> None:
        with w.lock():
            take_down(w, [clip(0).id], "the person asked", rewrite=lambda: None)

    video = Video(content_hash=clip(0).content_hash, family="", side="train")
    monkeypatch.setattr(takedown, "describe", lambda *_: video)
    with monkeypatch.context() as patch:
        patch.setattr(Objects, "remove", refused)
        with pytest.raises(BorderError):
            down()
    assert w.clips().height == 1, "the same command finishes it"
    with monkeypatch.context() as patch:
        patch.setattr(Takedowns, "remove_clips", killed)
        with pytest.raises(Killed):
            down()
    assert not store.has("media/film.mp4")
    down()
    assert not film.exists()
    assert w.clips().is_empty()


def test_other_kinds_of_urls_are_one_line() -> None:
    for url in ("sftp://host/w", "https://host/w", "nothing://w"):
        with pytest.raises(UserError, match="no kind of object store"):
            Objects(url)


def test_faults_of_this_host_are_not_the_store_s(hosts: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = hosts
    (a.root / "models").write_text("1")
    a.publish()
    monkeypatch.setattr(objects, "WAIT_S", 60.0)
    file = b.root / "folder" / "models"

    def fails(number: int) -> Callable[..., None]:
        def get_file(_: str, place: str) -> None:
            raise OSError(number, os.strerror(number), place)

        return get_file

    for number in (errno.EACCES, errno.EROFS, errno.EISDIR):
        with monkeypatch.context() as patch:
            patch.setattr(b.objects._fs, "get_file", fails(number), raising=False)
            with pytest.raises(BorderError, match=os.strerror(number)) as refused:
                b.objects.get("models", file)
        assert refused.value.code == "os"
        assert str(file.parent) in str(refused.value)
    (b.root / "file").write_text("")
    with pytest.raises(BorderError, match="Not a directory"):
        b.objects.get("models", b.root / "file" / "models" / "x")
    with pytest.raises(FileNotFoundError):
        b.objects.put(b.root / "none", "none")


def test_folders_that_became_empty_go_too(hosts: list[Mirror]) -> None:
    a, b = hosts
    for name in ("models/round=001/weights", "models/round=002/weights", "reports/round=001/report.html"):
        (a.root / name).parent.mkdir(parents=True, exist_ok=True)
        (a.root / name).write_text("1")
    a.publish()
    b.pull()
    for name in ("models/round=001/weights", "reports/round=001/report.html"):
        (a.root / name).unlink()
    a.publish()
    b.pull()
    assert sorted(str(p.relative_to(b.root)) for p in b.root.glob("*/*")) == ["models/round=002"]
    assert b.root.exists()
    assert not (b.root / "reports").exists()


def test_a_kill_among_many_files_loses_few_of_them(hosts: list[Mirror], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = hosts
    monkeypatch.setattr(copies, "_NOTE_EVERY_S", 0.0)
    monkeypatch.setattr(copies, "_THREADS", 1)
    for number in range(20):
        (a.root / f"file-{number:02}").write_text(str(number))
    for mirror_, name, do in ((a, "put", Mirror.publish), (b, "get", Mirror.pull)):
        work, count, noted = getattr(Objects, name), [0], [0]

        def counted(
            *arguments: Any, m: Any = mirror_, work: Any = work, count: Any = count, noted: Any = noted, **named: Any
        ) -> Any:
            count[0] += 1
            if count[0] == 11:
                end = time.monotonic() + 5
                while (now := len(copies.Index(m.root).copies)) < 10 and time.monotonic() < end:
                    time.sleep(0.005)
                noted.append(now)
                raise Killed
            return work(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Objects, name, counted)
            with pytest.raises(Killed):
                do(mirror_)
            assert noted[-1] == 10, "in the index while the work went on"
            before = count[0]
            do(mirror_)
        assert count[0] - before == 20 - before + 1, "the rest, and what failed"
        assert len(copies.Index(mirror_.root).copies) == 20


def test_halves_that_a_kill_left_go_after_a_day(hosts: list[Mirror]) -> None:
    root = hosts[0].root
    (root / "models").mkdir()
    (root / "cache").mkdir()
    old = [root / ".flywheel.yaml.0123abcd.part", root / "models" / ".weights.0123abcd.part", root / ".d.0123abcd.part"]
    kept = [root / "models" / ".new.0123abcd.part", root / "cache" / ".own.0123abcd.part", root / "models" / "a.part"]
    old[2].mkdir()
    for place in (*old[:2], *kept):
        place.write_text("half")
    for place in (*old, *kept[1:]):
        os.utime(place, (1000, 1000))
    hosts[0].pull()
    assert [p.exists() for p in (*old, *kept)] == [False] * 3 + [True] * 3

"""What can only be read, and a full disk, can still be looked at; what is written there is whole or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.core.errors import BorderError
from flywheel.core.files import written_whole
from flywheel.doctor.workspace import workspace as checks
from flywheel.store import Workspace
from flywheel.store.database import Database, NoTables
from tests.plugins import Command
from tests.store.test_compaction import fill
from tests.store.test_database_lost import LOCAL, made, root  # noqa: F401  (fixtures)
from tests.store.test_view import clip, correction

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 4 MB; needs root, and leave to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def make_full(disk: Path) -> None:
    with open(disk / "ballast", "wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), b"x" * 4096)


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [make_full, pytest.param(make_read_only, marks=pytest.mark.slow)])
def test_readers_go_on_and_writers_say_why_not(
    root: Path,  # noqa: F811
    mounted: Path,
    tmp_path: Path,
    harm: object,
    commandline: Command,
    capsys: Capture,
) -> None:
    w = Workspace.open(root)
    w.add_clips([clip(1)])
    w.database.close()
    shutil.copytree(root, mounted / "w")
    assert callable(harm)
    harm(mounted)
    config = ("--config", str(mounted / "w"))
    assert commandline("status", *config) == 0
    assert "annotations: 4" in capsys.readouterr().out
    assert commandline("show", "c0", *config) == 0
    out = tmp_path / "queue.jsonl"
    assert commandline("corrections", "export", str(out), *config) == 0
    assert out.read_text().count("\n") == 1
    assert commandline("corrections", "export", str(mounted / "queue.jsonl"), *config) == 1
    assert "queue.jsonl: can't be written" in capsys.readouterr().err
    assert sorted(path.name for path in mounted.iterdir()) in (["ballast", "w"], ["w"])
    assert commandline("invite", "--name", "ann", *config) == 1
    assert "Free space" in (said := capsys.readouterr().err) or "can only be read" in said


def test_a_new_workspace_on_a_full_disk_is_no_old_one(tmp_path: Path) -> None:
    (file := tmp_path / LOCAL).touch()
    full = "flywheel.db: can't write (database or disk is full). Free space on the disk"
    with pytest.raises(NoTables, match=r"^flywheel.db: can't write .*is full"):
        Database(f"sqlite:///{file}", read_only=full)


def test_what_can_only_be_read_is_told_by_doctor_and_refused_by_review(
    root: Path,  # noqa: F811
    commandline: Command,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = os.access
    # To root all can be written.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    assert commandline("review", "--config", root) == 1
    assert "what people say could not be kept." in (said := capsys.readouterr().err)
    assert f"{root}: can only be read. Make it writable" in said
    folder, *_ = [check for check in checks(root) if check.what == "folder"]
    assert (folder.state, folder.says[: len(str(root))]) == ("fail", str(root))


def test_the_log_of_a_killed_process_is_read_too(root: Path, mounted: Path) -> None:  # noqa: F811
    """Its last commits lie there alone, and its index would have to be written."""
    w = Workspace.open(root)
    fill(w, 1, first=2)
    shutil.copytree(root, mounted / "w")
    w.database.close()
    (mounted / "w" / f"{LOCAL}-shm").unlink()
    assert (mounted / "w" / f"{LOCAL}-wal").stat().st_size
    make_read_only(mounted)
    there = Workspace.open(mounted / "w")
    assert there.annotations().height == 6
    with pytest.raises(BorderError, match="can only be read"):
        there.add_corrections([correction(1)])
    there.database.close()


def test_a_file_is_written_whole_or_stays_what_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.write_text("before")

    def fail_half_way() -> None:
        with written_whole(out) as place:
            place.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert out.read_text() == "before"
    with written_whole(out) as place:
        place.write_text("after")
    assert out.read_text() == "after"
    folder = tmp_path / "out"
    for name in ("a", "b"):
        with written_whole(folder) as place:
            place.mkdir()
            (place / name).write_text(name)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.txt"]

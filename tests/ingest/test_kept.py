"""Videos out of containers: whole in their place, and no halves, unwanted ones or dry runs' beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flywheel.ingest import ingest, intake
from flywheel.ingest.kept import keep
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace
from tests.ingest.test_containers import tar_of

Make = Callable[..., Workspace]


def test_a_file_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path, is_new = keep(BytesIO(b"a video"), ".mp4", tmp_path)
    assert (path.name, is_new) == (hashlib.sha256(b"a video").hexdigest()[:32] + ".mp4", True)
    path.write_bytes(b"a vi")
    assert keep(BytesIO(b"a video"), ".mp4", tmp_path) == (path, False)
    assert path.read_bytes() == b"a video"
    before = path.stat().st_ino
    assert keep(BytesIO(b"a video"), ".mp4", tmp_path) == (path, False)
    assert path.stat().st_ino == before, "what is whole stays"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_ingest_left_goes_after_a_day(make_workspace: Make, tmp_path: Path) -> None:
    class Killed(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            left.extend(media.iterdir())
            raise OSError

    w = make_workspace()
    media, left = w.root / "media", list[Path]()
    with pytest.raises(OSError):
        keep(Killed(), ".mp4", media)
    fetched = media / "objects" / "0a" / ".clip.mp4.0a1b2c3d.part"
    fetched.parent.mkdir(parents=True)
    for half in (old := left[0], young := media / ".tmp.00000000.part", fetched):
        half.write_bytes(b"half")
    for half in (old, fetched):
        os.utime(half, (1, 1))
    with w.lock():
        ingest(w, [str(tar_of(tmp_path / "s.tar", ("a.mp4", b"no video")))])
    assert [p for p in media.rglob("*") if p.is_file()] == [young], "another process may be at it"


@pytest.mark.slow
def test_a_dry_run_needs_the_room_of_two_batches_and_a_takedown_leaves_no_words(
    make_workspace: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH", 2)
    video = min((corpus / "corpus").glob("*.mp4")).read_bytes()
    words = [f"WEBVTT\n\n00:00.000 --> 00:01.500\nsecret words {n}\n".encode() for n in range(8)]
    samples = [video + b"\0\0\0\x0cfree" + n.to_bytes(4) for n in range(8)]
    members = [m for n in range(8) for m in ((f"{n}.mp4", samples[n]), (f"{n}.vtt", words[n]))]
    shard = tar_of(tmp_path / "s.tar", *members)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    there: list[int] = []
    take = intake._DryIntake.take

    def counted(*arguments: Any) -> None:
        there.append(len(list((tmp_path / "tmp").rglob("*.mp4"))))
        take(*arguments)

    monkeypatch.setattr(intake._DryIntake, "take", counted)
    w = make_workspace("corpus.test_share=0", "corpus.anchor_share=0")
    would = ingest(w, [str(shard)], dry_run=True)
    assert (would.clips, would.rejected, len(there)) == (8, 0, 4)
    assert max(there) <= 2 * 2 + 1, "and the one that is read ahead"
    with w.lock():
        assert ingest(w, [str(shard)]).clips == 8
    media = w.root / "media"
    assert len(list(media.iterdir())) == 16
    (media / "objects" / "0a").mkdir(parents=True)
    for name in ("s.tar", "t.parquet", "other.mp4", ".fetched.jsonl"):
        (media / "objects" / "0a" / name).write_bytes(b"fetched")
    first = w.clips().select("content_hash", "uri").row(0)
    making = w.root / "cache" / "proxies" / first[0][:2] / f"{first[0]}.0a1b2c3d.tmp.mp4"
    making.parent.mkdir(parents=True)
    making.write_bytes(b"half a copy")
    with w.lock():
        assert len(take_down(w, [first[1]], "asked", rewrite=lambda: None).clips) >= 1
    assert not making.exists()
    assert not any(media.glob(f"{first[0][:32]}*"))
    left = {p.name for p in (media / "objects" / "0a").iterdir()}
    assert left == {".fetched.jsonl", "other.mp4"}, "containers hold it, or its words"
    store = fsspec.filesystem("memory")
    store.pipe_file("/kept/in/a.mp4", samples[0])
    store.pipe_file("/kept/in/a.vtt", words[0])
    with w.lock():
        assert "was taken down: asked" in ingest(w, ["memory://kept/in"]).first_rejected[0]
    assert not any(media.rglob("a.*")), "what was fetched again does not stay"

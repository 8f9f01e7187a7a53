"""A workspace on an object store: two hosts see the same, kills and faults lose nothing, credentials are nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.errors import BorderError, UserError
from flywheel.ingest import ingest
from flywheel.store import Workspace, mirror, objects
from flywheel.store.copies import trim_shards
from flywheel.store.mirror import Mirror
from flywheel.store.objects import Objects, url_of
from tests.store.object_bed import SECRET, Faulty, object_server
from tests.store.test_compaction import text

CONFIG = {
    "corpus": {"frames": 2, "max_side": 64, "test_share": 0.1, "anchor_share": 0.1},
    "models": {"main": {"engine": "fake"}},
    "evaluate": {"agreement_pairs": 0, "resamples": 100},
    "tracking": {"enabled": False},
}
#: Given to hosts' processes by their environment alone.
URL = "s3://corpus/wheels/one"


def test_a_url_is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert url_of("s3://b/p/") == url_of(Path("s3://b/p")) == "s3://b/p"
    assert url_of("/data/s3") is url_of("a:b") is url_of("w") is None
    Path("s3:/b").mkdir(parents=True)
    assert url_of(Path("s3:/b")) is None, "a folder that is there is that folder"
    with pytest.raises(UserError, match="environment alone") as refused:
        url_of("s3://key:secret@b/p")
    assert "secret" not in str(refused.value)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Mirror]]:
    """Two hosts' copies of one place, in fsspec's store in memory."""
    import fsspec

    url = f"memory://{tmp_path.name}/w"
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        root.mkdir()
    yield [Mirror(url, root) for root in roots]
    fsspec.filesystem("memory").store.clear()


def test_hosts_have_the_same_files_and_what_one_removed_goes(hosts: list[Mirror]) -> None:
    a, b = hosts
    (a.root / "models").mkdir()
    (a.root / "cache").mkdir()
    (a.root / "models" / "weights").write_text("1")
    (a.root / "cache" / "frames").write_text("own")
    (a.root / "flywheel.db").write_text("own")
    assert a.publish() == 1
    assert a.publish() == 0, "what did not change is not sent again"
    b.pull()
    assert (b.root / "models" / "weights").read_text() == "1"
    assert sorted(p.name for p in b.root.iterdir() if p.name[0] != ".") == ["models"]
    (b.root / "models" / "weights").write_text("two")
    assert b.publish() == 1
    # What a host changed and did not send yet is its own until somebody else sent another one.
    (a.root / "flywheel.yaml").write_text("mine")
    a.pull()
    assert (a.root / "flywheel.yaml").read_text() == "mine"
    assert (a.root / "models" / "weights").read_text() == "two"
    a.publish()
    (a.root / "models" / "weights").unlink()
    assert a.publish() == 1
    b.pull()
    assert not (b.root / "models" / "weights").exists()
    assert (b.root / "flywheel.yaml").read_text() == "mine"


def test_shards_have_names_of_their_own_and_copies_of_them_have_a_cap(hosts: list[Mirror]) -> None:
    a, b = hosts
    names = [f"clips/part-{number}.parquet" for number in range(4)]
    (a.root / "clips").mkdir()
    for name in names:
        (a.root / name).write_bytes(b"x" * 100)
        a.add(name)
    a.add(names[0])
    (a.root / names[0]).write_bytes(b"another")
    with pytest.raises(FileExistsError):
        a.add(names[0])
    for number, name in enumerate(names):
        os.utime(a.root / name, (1000 + number, 1000 + number))
    b.fetch([*names, "clips/part-none.parquet"])
    assert b.shards() == set(names)
    assert len(list((b.root / "clips").iterdir())) == 4
    trim_shards(a.root, set(names[1:]), most_bytes=200)
    assert sorted(p.name for p in (a.root / "clips").iterdir()) == ["part-2.parquet", "part-3.parquet"]


class Bed:
    """A workspace on the store, and hosts: each has a cache of its own."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch, faulty: Faulty, database: str) -> None:
        self._tmp, self._patch, self.faulty = tmp_path, patch, faulty
        patch.setenv("WHEEL_DATABASE", database)
        self.opened: list[Workspace] = []
        Workspace.create(URL, json.dumps({**CONFIG, "store": {"database": "$WHEEL_DATABASE"}}))

    def on(self, host: str) -> Path:
        """Make this the host that commands run on; returns its cache."""
        cache = self._tmp / host
        self._patch.setenv("FLYWHEEL_CACHE", str(cache))
        mirror._mirror.cache_clear()
        return cache

    def open(self, host: str) -> Workspace:
        self.on(host)
        self.opened.append(Workspace.open(URL))
        return self.opened[-1]


@pytest.fixture
def bed(tmp_path: Path, postgresql: Callable[[], str]) -> Iterator[Bed]:
    with pytest.MonkeyPatch.context() as patch, object_server(patch) as faulty:
        patch.setattr(objects, "WAIT_S", 0.02)
        made = Bed(tmp_path, patch, faulty, postgresql())
        yield made
        for workspace in made.opened:
            workspace.database.close()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flywheel.cli", *words, "--config", URL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def rows_of(workspace: Workspace) -> dict[str, pl.DataFrame]:
    return {kind: workspace.records.read(kind) for kind in ("clips", "annotations")}


@pytest.mark.slow
def test_two_hosts_work_on_one_workspace(bed: Bed, corpus: Path) -> None:
    a = bed.open("a")
    with a.lock():
        ingest(a, [str(corpus / "corpus")])
        a.add_annotations([text(0), text(1)], 1)
        a.model_folder(1).mkdir(parents=True)
        (a.model_folder(1) / "config.json").write_text("{}")
    b = bed.open("b")
    assert {kind: frame.equals(rows_of(a)[kind]) for kind, frame in rows_of(b).items()} == {
        "clips": True,
        "annotations": True,
    }
    assert (b.model_folder(1) / "config.json").read_text() == "{}"
    assert a.root != b.root
    bed.on("b")
    said = run("status", "--json")
    assert json.loads(said.stdout)
    with b.lock():
        assert b.add_annotations([text(2)], 1) == 1
        # What is taken down is nowhere, here or there, and on the other host when that looks next.
        b.records.remove({"annotations": pl.col("id") == text(1).id})
    names = [name for name in Objects(URL).listing() if name.startswith("annotations/")]
    here = {shard.name for shard in b.records.shards("annotations")}
    assert set(names) == here, "no commit names another object"
    a = bed.open("a")
    ids = set(a.annotations()["id"])
    assert text(2).id in ids
    assert text(1).id not in ids
    with a.lock():
        pass
    left = {str(p.relative_to(a.root)) for p in (a.root / "annotations").rglob("part-*")}
    assert left <= here
    # A key of the store is in no file and no row.
    for file in (p for root in (a.root, b.root) for p in root.rglob("*") if p.is_file()):
        assert SECRET.encode() not in file.read_bytes()
    assert SECRET not in said.stderr + said.stdout + a.config.model_dump_json()


@pytest.mark.slow
def test_faults_of_the_store_are_tried_again_and_said_or_are_one_line(
    bed: Bed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, file = Objects(URL), tmp_path / "file"
    file.write_bytes(os.urandom(300_000))
    for number in range(20):
        store.put(file, f"models/{number}", new=True)
    bed.faulty.set(0.4, 503, "slow", "cut")
    capsys.readouterr()
    for number in range(20):
        copy = tmp_path / f"copy-{number}"
        store.get(f"models/{number}", copy)
        assert copy.read_bytes() == file.read_bytes()
        store.put(file, f"more/{number}", new=True)
    assert {name for name in store.listing() if name.startswith("more/")} == {f"more/{n}" for n in range(20)}
    met = bed.faulty.met
    assert met[503] > 5
    assert met["cut"] > 2
    said = capsys.readouterr().err
    assert said.count(" of 6\n") == store.num_retries > 0, "each try again is said, with its count"
    for fault, sign in ((403, "access was refused"), (503, "failed 6 times")):
        bed.faulty.set(1.0, fault)
        with pytest.raises(BorderError, match=sign) as refused:
            store.listing()
        assert "\n" not in str(refused.value)
        assert SECRET not in str(refused.value)
    bed.faulty.set(0.0)
    with pytest.raises(FileNotFoundError):
        Objects("s3://corpus/bucket").get("none", tmp_path / "none")
    with pytest.raises(UserError, match="no such bucket"):
        Objects("s3://not-there/x").listing()
    with pytest.raises(UserError, match=r"no flywheel\.yaml"):
        Workspace.open("s3://corpus/elsewhere")
    with pytest.raises(UserError, match="exists already"):
        Workspace.create(URL, "{}")


@pytest.mark.slow
def test_a_round_s_texts_are_the_same_through_faults_and_videos_come_from_the_store(bed: Bed, corpus: Path) -> None:
    """Sources are read at the store too; what was copied once is not copied again."""
    videos = Objects("s3://corpus/videos")
    for file in (corpus / "corpus").rglob("*"):
        if file.is_file():
            videos.put(file, str(file.relative_to(corpus / "corpus")))
    a = bed.open("a")
    bed.faulty.set(0.2, 503, "slow", "cut")
    with a.lock():
        result = ingest(a, ["s3://corpus/videos"])
    bed.faulty.set(0.0)
    assert result.clips
    reads = bed.faulty.met.total()
    with a.lock():
        assert not ingest(a, ["s3://corpus/videos"]).clips
    assert bed.faulty.met.total() - reads < 20, "listings alone"
    local = Workspace.open(_plain(bed, corpus))
    bed.opened.append(local)
    assert sorted(local.clips()["content_hash"]) == sorted(a.clips()["content_hash"])
    assert sorted(local.clips()["transcript"]) == sorted(a.clips()["transcript"])


def _plain(bed: Bed, corpus: Path) -> Path:
    """A workspace in a folder with the same videos."""
    root = bed.on("plain")
    root.mkdir()
    (root / "flywheel.yaml").write_text(json.dumps(CONFIG))
    workspace = Workspace.open(root)
    with workspace.lock():
        ingest(workspace, [str(corpus / "corpus")])
    workspace.database.close()
    return root

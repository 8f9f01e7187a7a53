"""Records: every key once, shards whole or not at all, whatever happens in between."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from flywheel.core.errors import BorderError, UserError
from flywheel.core.types import Annotation, Correction
from flywheel.store import Workspace
from flywheel.store.columns import SCHEMAS
from flywheel.store.writing import reject_id

Make = Callable[..., Workspace]


def annotation(number: int, text: str = "a text", round: int = 1) -> Annotation:
    return Annotation(
        id=f"a{number}",
        round=round,
        kind="caption",
        clip_id=f"c{number}",
        generation_id="",
        source="model",
        text=text,
        mean_logprob=-1.0,
    )


def test_a_key_is_written_once(make_workspace: Make) -> None:
    w = make_workspace()
    assert w.add_annotations([annotation(1, "first"), annotation(2)], 1) == 2
    assert w.add_annotations([annotation(1, "second"), annotation(3), annotation(3, "again")], 1) == 1
    frame = w.annotations(round=1).sort("id")
    assert frame["id"].to_list() == ["a1", "a2", "a3"]
    assert frame["text"][0] == "first"


def test_rows_not_committed_do_not_exist(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dies between rename and commit leaves a file that nobody reads, and the next one moves aside."""
    w = make_workspace()
    w.add_annotations([annotation(1)], 1)

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(w.database, "change", die)
        with pytest.raises(Died):
            w.add_annotations([annotation(2)], 1)
    files = list((w.root / "annotations").rglob("part-*.parquet"))
    assert len(files) == 2
    assert w.annotations()["id"].to_list() == ["a1"]
    with w.lock():
        assert len(list((w.root / "annotations").rglob("part-*"))) == 1
    assert w.add_annotations([annotation(2)], 1) == 1


def test_a_full_disk_loses_nothing_written(make_workspace: Make) -> None:
    """A real limit on file size stands in for the disk: the write fails half-way, the line says so, the rest stands."""
    w = make_workspace()
    w.add_annotations([annotation(1)], 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
        with pytest.raises(BorderError, match="can't write"):
            w.add_annotations([annotation(i, "long " * 50 + str(i)) for i in range(2, 200)], 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert w.annotations()["id"].to_list() == ["a1"]
    assert not list((w.root / "annotations").rglob("*.tmp"))
    assert w.add_annotations([annotation(i) for i in range(2, 200)], 1) == 198


def test_a_damaged_shard_is_named(make_workspace: Make) -> None:
    w = make_workspace()
    w.add_annotations([annotation(1)], 1)
    shard = next((w.root / "annotations").rglob("part-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(
        BorderError, match=f"{shard.name}: damaged .*doctor --give-up annotations/round=001/{shard.name}"
    ):
        w.annotations()


def _hold(root: Path, ready: object, release: object) -> None:
    with Workspace.open(root).lock():
        ready.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_second_process_is_refused(make_workspace: Make) -> None:
    w = make_workspace()
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(w.root, ready, release))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(UserError, match=rf"in use by another flywheel process \(pid {holder.pid}\)"), w.lock():
        pass
    assert w.annotations().is_empty(), "readers need no lock"
    holder.kill()
    holder.join()
    with w.lock():
        pass


def test_rejects_stay_and_close(make_workspace: Make) -> None:
    w = make_workspace()
    for _ in range(2):
        w.add_rejected(round=1, stage="annotate", uri="x.mp4", clip_id="c1", reason="no frame can be decoded")
    w.add_rejected(round=1, stage="annotate", uri="y.mp4", clip_id="c2", reason="the file is gone")
    assert w.rejected().height == 2
    w.add_annotations([annotation(1)], 1)
    assert w.rejected().height == 2, "what failed stays on record"
    assert w.rejected(open_only=True)["clip_id"].to_list() == ["c2"]
    # Of what a clip has several of, one that failed is told from the others, once, whatever the reason.
    for reason in ("prose", "too long"):
        w.add_rejected(
            round=1, stage="annotate", uri="x", clip_id="c1", reason=reason, kind="facts", purpose="verify", about="t1"
        )
    assert w.rejected().height == 3
    ids = {reject_id(1, "facts", "verify", "c1", about): about for about in ("t1", "t2")}
    assert [ids[known] for known in w.records.known("rejected", ids)] == ["t1"]


def test_corrections_are_appended_once(make_workspace: Make) -> None:
    w = make_workspace()
    correction = Correction(
        id="k1",
        annotation_id="a1",
        clip_id="c1",
        verdict="edit",
        text="better",
        refiner="r",
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert w.add_corrections([correction, correction]) == 1
    assert w.add_corrections([correction]) == 0
    assert w.correction_records() == [correction]


def test_schemas_cover_the_types() -> None:
    """The first column is the key, and every field of a type has its column."""
    from flywheel.core import types

    for kind, cls in (("clips", types.Clip), ("generations", types.Generation), ("annotations", types.Annotation)):
        assert list(SCHEMAS[kind]) == list(cls.__dataclass_fields__)


def test_many_shards_read_back_in_order(make_workspace: Make) -> None:
    w = make_workspace()
    for start in range(0, 60, 3):
        w.add_annotations([annotation(i) for i in range(start, start + 3)], round=start % 4)
    assert w.annotations()["id"].to_list() == [f"a{i}" for i in range(60)]
    assert w.annotations(round=0).height == 15
    assert isinstance(w.annotations(), pl.DataFrame)


def test_a_newer_layout_is_refused(make_workspace: Make) -> None:
    w = make_workspace()
    w.set_meta("schema_version", "99")
    with pytest.raises(UserError, match="layout 99"):
        make_workspace()

"""A clip that must go: nothing of it stays, nothing else goes, and where it was used is said."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models.inputs import clip_times
from flywheel.rounds import RoundContext
from flywheel.rounds.export import export
from flywheel.rounds.mix import training_examples
from flywheel.rounds.publish import reports_until, rewrite_reports
from flywheel.rounds.report import write_report
from flywheel.rounds.stages import gate as gate_stage
from flywheel.rounds.takedown import Takedown, take_down
from flywheel.rounds.texts import CurrentTexts, SourceChoice
from flywheel.rounds.traces import learned_rows
from tests.rounds.test_champion import context, prepared, says  # noqa: F401
from tests.rounds.test_rounds import correct

SECRET = "Zeugin in rotem Mantel"


def take(context: RoundContext, names: list[str], reason: str, *, keep_exports: bool = False) -> Takedown:  # noqa: F811
    rewrite = partial(rewrite_reports, context)
    return take_down(context.workspace, names, reason, rewrite=rewrite, keep_exports=keep_exports)


def used(context: RoundContext, tmp_path: Path) -> str:  # noqa: F811
    """A train clip whose text people gave, that was learned from, exported, reported and cached; returns its id."""
    w = context.workspace
    clip = sorted(context.split("train"), key=lambda c: c.id)[0]
    correct(context, clip.id, SECRET)
    says(context, 0, 0.2)
    says(context, 1, 0.9)
    texts = CurrentTexts(w)
    examples = list(training_examples(context, texts, SourceChoice(round=1, anchor_f1={}, num_anchors=0), 1))
    w.add_examples(list(learned_rows("pretrain", examples, texts)), 1)
    gate_stage.run(context, 1)
    context.input(clip.id)
    export(context, tmp_path / "taken", "messages")
    write_report(context, reports_until(context, 1))
    return clip.id


def traces(root: Path, *words: str) -> list[str]:
    found = []
    for path in root.rglob("*"):
        if path.is_file() and path.name not in (".lock",):
            content = path.read_bytes()
            found += [f"{path.relative_to(root)}: {word}" for word in words if word.encode() in content]
    return found


@pytest.mark.slow
def test_nothing_of_it_stays_and_nothing_else_goes(context: RoundContext, tmp_path: Path) -> None:  # noqa: F811
    w = context.workspace
    clip_id = used(context, tmp_path)
    clip = context.clips[clip_id]
    others = {kind: w.records.read(kind).height for kind in ("clips", "annotations", "generations", "examples")}
    mine = w.annotations().filter(clip_id=clip_id).height
    assert traces(w.root, SECRET), "it was there"
    with w.lock():
        found = take(context, [clip_id], "the person asked for it")
    assert found.learned == [{"clip_id": clip_id, "round": 1, "stage": "pretrain", "use": "learned"}]
    assert found.files == [clip.uri]
    assert found.removed["annotations"] == mine > 0
    assert not (tmp_path / "taken").exists()
    w.database.close()
    assert traces(w.root, SECRET) == []
    left = {t.split(":")[0] for t in traces(w.root, clip_id)}
    assert left <= {"flywheel.db", "flywheel.db-wal"}, "its id stands in the database alone"
    database = sqlite3.connect(w.root / "flywheel.db")
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    holding = {t for t in tables if any(clip_id in str(row) for row in database.execute(f"SELECT * FROM {t}"))}
    database.close()
    assert holding == {"takedowns", "videos"}, "and names its video, so that copies of it are refused"
    assert {k: w.records.read(k).height for k in others} == {
        "clips": others["clips"] - 1,
        "annotations": others["annotations"] - mine,
        "generations": others["generations"] - 1,
        "examples": others["examples"] - 1,
    }
    corpus, before = w.config.corpus, w.cache.decodes
    w.cache.frames(
        clip.uri, clip.content_hash, clip_times(clip, corpus.frames, corpus.sampling, corpus.fps), corpus.max_side
    )
    assert w.cache.decodes == before + 1, "its frames were not in the cache any more"
    assert clip_id not in CurrentTexts(w.as_of(1)).human, "nor in the past"
    with w.lock():
        again = ingest(w, [clip.uri])
    assert (again.clips, again.rejected) == (0, 1)
    assert "was taken down: the person asked" in w.rejected(open_only=True)["reason"].to_list()[-1]
    with w.lock():
        assert take(context, [clip_id[:8]], "again").removed["annotations"] == 0, "the same command again is no error"
    with w.lock(), pytest.raises(UserError, match="names no clip"):
        take(context, ["abcdef"], "x")


@pytest.mark.slow
def test_by_path_and_exports_may_stay(context: RoundContext, tmp_path: Path) -> None:  # noqa: F811
    w = context.workspace
    clip_id = used(context, tmp_path)
    with w.lock():
        found = take(context, [context.clips[clip_id].uri], "x", keep_exports=True)
    assert found.clips == [clip_id]
    assert found.exports == [str(tmp_path / "taken")]
    assert (tmp_path / "taken" / "train.jsonl").exists()


@pytest.mark.slow
def test_a_kill_between_a_snapshot_and_its_hash_is_mended(
    context: RoundContext,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = context.workspace
    clip_id = used(context, tmp_path)
    original = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.name == "corrections.tmp":
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with w.lock(), pytest.raises(KeyboardInterrupt):
        take(context, [clip_id], "x")
    monkeypatch.undo()
    with w.lock():
        take(context, [clip_id], "x")
    assert w.as_of(1).corrections().filter(clip_id=clip_id).is_empty()


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_finishes(context: RoundContext, tmp_path: Path) -> None:  # noqa: F811
    w = context.workspace
    used(context, tmp_path)
    rng, environment = np.random.default_rng(1), {**os.environ, "HF_HUB_OFFLINE": "1"}
    ids = [c.id for c in sorted(context.split("train"), key=lambda c: c.id)][:4]
    rest = w.annotations().filter(~w.annotations()["clip_id"].is_in(ids)).sort("id")

    def start(clip_id: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flywheel.cli", "takedown", clip_id, "--reason", "x", "--yes"]
        command += ["--config", str(w.root)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    began = time.monotonic()
    assert start(ids[0]).wait(120) == 0
    whole = time.monotonic() - began
    for clip_id in ids[1:]:
        for _ in range(4):
            process = start(clip_id)
            time.sleep(float(rng.uniform(0.5 * whole, whole)))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert start(clip_id).wait(120) == 0
    left = w.annotations()
    assert not set(left["clip_id"]) & set(ids)
    assert left.sort("id").equals(rest)
    assert w.as_of(1).corrections().filter(w.as_of(1).corrections()["clip_id"].is_in(ids)).is_empty()

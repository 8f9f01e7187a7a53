"""Several processes annotate one round: no text twice, the work shared, and whoever dies is made up for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from flywheel.core.types import content_id
from flywheel.ingest import ingest
from flywheel.rounds import joining
from flywheel.store import Workspace
from flywheel.store.claims import Claims, parts_done
from flywheel.store.clip_index import ClipIndex

CONFIG = {
    "corpus": {"frames": 2, "max_side": 64, "test_share": 0.1, "anchor_share": 0.1},
    "annotate": {"lease_s": 2, "batch_size": 16},
    "models": {"main": {"engine": "fake", "options": {"seconds_per_batch": 0.1}}},
    "evaluate": {"agreement_pairs": 0, "resamples": 100},
    "tracking": {"enabled": False},
}
NUM_CLIPS, NUM_PARTS = 640, 41


def filled(root: Path, url: str, corpus: Path) -> Workspace:
    """A workspace of many clips that share the spans of a few."""
    root.mkdir()
    (root / "flywheel.yaml").write_text(json.dumps({**CONFIG, "store": {"database": url}}))
    w = Workspace.open(root)
    with w.lock():
        ingest(w, [str(corpus / "corpus")], limit=4)
        some = list(ClipIndex(w).of("train"))
        w.add_clips(replace(some[n % len(some)], id=content_id("copy", n)) for n in range(NUM_CLIPS))
    return w


def join(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flywheel.cli", "annotate", "--join", "--config", str(root), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_share_a_round_and_one_ends_it_when_the_other_is_killed(
    tmp_path: Path, corpus: Path, postgresql: Callable[[], str]
) -> None:
    """On PostgreSQL, as two hosts have it."""
    w = filled(tmp_path / "w", postgresql(), corpus)
    both = [join(w.root), join(w.root)]
    first: dict[str, int] = {}
    while sum((done := parts_done(w, "1:caption")).values()) < NUM_PARTS * 2 // 3:
        assert [process.poll() for process in both] == [None, None]
        # The second may start later: work is shared from then on.
        first = first or (done if len(done) == 2 else {})
        time.sleep(0.05)
    assert len(done) == 2
    taken = [count - first[name] for name, count in done.items()]
    assert max(taken) - min(taken) <= max(1, 0.2 * sum(taken) / 2), (first, done)
    os.kill(both[0].pid, signal.SIGKILL)
    both[0].communicate()
    out, err = both[1].communicate(timeout=120)
    assert both[1].returncode == 0, err
    texts, clips = w.annotations(round=1), set(ClipIndex(w).of("train", "anchor").columns("id")["id"])
    assert texts.height == len(clips), "texts are missing or doubled"
    assert set(texts["clip_id"]) == clips
    assert w.stage(1, "annotate")[0] == "done"
    assert json.loads(out)["annotations"] == texts.height
    assert parts_done(w, "1:") == {}, "claims stay behind"
    w.database.close()


def test_who_comes_when_the_stage_is_done_writes_nothing_and_leaves_no_claim(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make_workspace()
    w.set_stage(1, "annotate", "running", {})
    share = w.share

    def late() -> AbstractContextManager[None]:
        """Another process ends the stage while this one waits, and is killed before it removes the claims."""
        w.set_stage(1, "annotate", "done", {})
        claims = Claims(w, "1:caption", 1, size=1, lease_s=60)
        claims._take(0)
        claims._finish(0)
        return share()

    monkeypatch.setattr(w, "share", late)
    monkeypatch.setattr(joining, "check_before", lambda context: None)
    monkeypatch.setattr(joining, "write_together", lambda context, round: pytest.fail("the stage was begun again"))
    assert joining.join(w) == (1, 0)
    assert parts_done(w, "1:") == {}

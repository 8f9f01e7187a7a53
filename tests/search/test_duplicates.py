"""Clips of different videos that look alike are proposed, and kept on one side of the split where that is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.core.types import Clip
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, save_encoder
from flywheel.rounds.resplit import planned_resplit
from flywheel.search.duplicates import Duplicate, duplicates, keep_together
from flywheel.store import Workspace
from flywheel.store.vectors import VectorIndex, vector_row

SMALL = yaml.safe_load(
    "{width: 8, heads: 2, layers: 1, decoder_width: 8, frames: 1, frame_size: 8, patch: 8, bands: 8, times: 8, "
    "sound_patch: 8, words: 4, vocabulary: 64}"
)
FACTS = {"fps": 25.0, "width": 8, "height": 8, "has_audio": True, "sounds": "", "cues": (), "transcript": ""}


@pytest.mark.slow
def test_duplicates_are_proposed_and_kept_together(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> None:
    w = make_workspace("index.folder=mine")
    save_encoder(encoders.build("trimodal", **SMALL), w.root / "mine")
    model, vectors = encoder_id(w.root / "mine"), np.eye(8, dtype=np.float32)
    # Of the clips 0 to 5: 1 is a copy of 0, 3 nearly one of 2 on the other side, 5 of the same video as 4.
    looks = [vectors[0], vectors[0], vectors[1], vectors[1] * 0.995 + vectors[7] * 0.1, vectors[2], vectors[2]]
    videos, splits = ["a", "b", "c", "d", "e", "e"], ["train", "train", "train", "test", "train", "train"]
    with w.lock():
        w.add_clips(
            [
                Clip(id=f"c{n}", uri=f"/v/{v}.mp4", content_hash=f"h{v}", start_s=0.0, end_s=1.0, split=split, **FACTS)
                for n, (v, split) in enumerate(zip(videos, splits, strict=True))
            ]
        )
        w.add_vectors([vector_row(model, "video", f"c{n}", v) for n, v in enumerate(looks)])
        w.add_vectors([vector_row(model, "sound", f"c{n}", vectors[n]) for n in (0, 1)])
        w.add_vectors([vector_row(model, "video", "c9", vectors[0])])
    first, second = duplicates(w, least=0.9, limit=10)
    assert [(p.first, p.second, p.sound, p.apart) for p in (first, second)] in (
        [("c0", "c1", 0.0, False), ("c2", "c3", None, True)],
        [("c1", "c0", 0.0, False), ("c3", "c2", None, True)],
        [("c1", "c0", 0.0, False), ("c2", "c3", None, True)],
        [("c0", "c1", 0.0, False), ("c3", "c2", None, True)],
    )
    assert second.video == pytest.approx(0.995, abs=2e-3)
    assert len(duplicates(w, least=0.999, limit=10)) == len(duplicates(w, least=0.9, limit=1)) == 1
    index = VectorIndex.open(w, model, 8)
    index.update_graphs(0, 1)
    assert duplicates(w, least=0.9, limit=10) == [first, second]

    runner, config = CliRunner(), ["--config", str(w.root), "--set", "index.folder=mine"]
    refused = runner.invoke(app, ["index", "--keep-together", *config])
    assert "Name both" in str(refused.exception)
    printed = runner.invoke(app, ["index", "--duplicates", "--least", "0.9", "--keep-together", "--json", *config])
    assert printed.exit_code == 0, printed.stdout
    assert [pair["apart"] for pair in json.loads(printed.stdout)] == [False, True]
    family = {video.content_hash: video.family for video in w.videos.known(["ha", "hb", "hc", "hd"]).values()}
    assert family["ha"] == family["hb"]
    assert family["hc"] != family["hd"]
    assert w.videos.joined() == [tuple(sorted((family["hc"], family["hd"])))]
    # Asked again nothing more is done.
    again = runner.invoke(app, ["index", "--duplicates", "--least", "0.9", "--keep-together", *config])
    assert "the videos of 0 pairs became one family, 1 pairs wait" in again.stderr
    assert len(w.videos.joined()) == 1


def clip(number: int, video: str, split: str) -> Clip:
    uri = f"/v/{video}.mp4"
    return Clip(id=f"c{number:02d}", uri=uri, content_hash=video, start_s=0.0, end_s=1.0, split=split, **FACTS)


def test_pairs_that_make_a_chain_are_one_family_after_a_resplit(make_workspace: Callable[..., Workspace]) -> None:
    w = make_workspace()
    pairs = [("c02", "c09"), ("c01", "c02"), ("c03", "c09")]
    rest = {"uris": ("", ""), "starts_s": (0.0, 0.0), "video": 1.0, "sound": None, "splits": ("", ""), "apart": False}
    with w.lock():
        w.add_clips([clip(n, f"v{n}", "train" if n < 9 else "test") for n in (1, 2, 3, 4, 9)])
        kept = keep_together(w, [Duplicate(first=first, second=second, **rest) for first, second in pairs])
        assert (kept.united, kept.apart) == (1, 2)
        # The family c02 is c01 now, also where it is noted what it belongs to.
        assert sorted(w.videos.joined()) == [("c01", "c09"), ("c03", "c09")]
        planned_resplit(w)
    assert w.videos.families() == {"c01": 4, "c04": 1}
    assert w.videos.joined() == []


def test_by_a_graph_copies_are_found_behind_many_alike_clips_of_the_same_video(
    make_workspace: Callable[..., Workspace],
) -> None:
    w = make_workspace("index.folder=mine")
    save_encoder(encoders.build("trimodal", **SMALL), w.root / "mine")
    model, first, second = encoder_id(w.root / "mine"), np.zeros(8, np.float32), np.zeros(8, np.float32)
    first[0], second[:2] = 1, (0.99, 0.141)
    with w.lock():
        w.add_clips([clip(n, "ab"[n % 2], "train") for n in range(80)])
        w.add_vectors([vector_row(model, "video", f"c{n:02d}", (first, second)[n % 2]) for n in range(80)])
    VectorIndex.open(w, model, 8).update_graphs(0, 1)
    found = [(pair.first, pair.second) for pair in duplicates(w, least=0.9, limit=10_000)]
    assert {clip_id for pair in found for clip_id in pair} == {f"c{n:02d}" for n in range(80)}
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert all(int(one[1:]) % 2 != int(other[1:]) % 2 for one, other in found)

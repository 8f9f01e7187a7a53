"""Novelty: real embeddings of the bundled model, and the order that they give."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flywheel.core.errors import MediaError
from flywheel.core.types import Correction
from flywheel.ingest import ingest
from flywheel.rounds import RoundContext
from flywheel.rounds.stages.annotate import embed
from flywheel.store import Workspace
from flywheel.store.vectors import vector_row
from flywheel.store.vectors_in_use import ENCODER
from human_refine.media import Proxies
from human_refine.queue import Queue
from human_refine.signals.novelty import farthest_first

Make = Callable[..., Workspace]


@pytest.mark.parametrize("num_seen", [0, 1, 4])
def test_farthest_first_is_what_its_definition_says(num_seen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("human_refine.signals.novelty._BLOCK", 7)
    monkeypatch.setattr("human_refine.signals.novelty._SEEN", 3)
    rng = np.random.default_rng(num_seen)
    points = rng.normal(size=(30, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    seen, points = points[:num_seen], points[num_seen:]
    order = farthest_first(points, seen if num_seen else None, 12)
    assert len({i for i, _ in order}) == 12
    known = list(seen)
    for place, (index, distance) in enumerate(order):
        if known:
            nearest = [min(1 - float(p @ k) for k in known) for p in points]
            assert nearest[index] == pytest.approx(max(nearest), abs=1e-6)
            assert distance == pytest.approx(nearest[index], abs=1e-5) or place == 0
        known.append(points[index])
    distances = [d for _, d in order]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.slow
def test_what_is_like_what_people_saw_comes_last(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace(
        "annotate.engine=fake", "review.order=[novelty]", "review.random_share=0", "corpus.anchor_share=0"
    )
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
        context = RoundContext(w)
        context.ask(context.split("train"), by=0, round=1)
        assert embed(context) == len(context.split("train"))
        assert embed(context) == 0, "made once"
    vectors = dict(w.records.read("embeddings").select("clip_id", "vector").iter_rows())
    points = {c: np.array(v, dtype=np.float32) for c, v in vectors.items()}
    assert all(abs(float(np.linalg.norm(p)) - 1) < 1e-5 for p in points.values())
    clip_of = dict(w.annotations(round=1).select("id", "clip_id").iter_rows())
    first = list(Queue(w).places())
    assert {place.why for place in first} == {"novelty"}
    seen = clip_of[first[0].annotation_id]
    w.add_corrections(
        [
            Correction(
                id="k",
                annotation_id=first[0].annotation_id,
                clip_id=seen,
                verdict="accept",
                text="",
                refiner="r",
                at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        ]
    )
    order = [clip for place in Queue(w).places() if (clip := clip_of[place.annotation_id]) != seen]
    far = max(order, key=lambda c: 1 - float(points[c] @ points[seen]))
    assert order[0] == far


@pytest.mark.slow
def test_the_same_clip_is_the_same_point(make_workspace: Make, corpus: Path) -> None:
    """Whatever it is batched with; another clip is another point."""
    from flywheel.models.embed import clip_embeddings

    w = make_workspace()
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    context = RoundContext(w)
    vlm = context.load(context.base)
    pictures = [context.input(c) for c in sorted(context.clips)[:6]]
    together = clip_embeddings(vlm, context.builder(vlm.processor), pictures, "What happens?")
    alone = clip_embeddings(vlm, context.builder(vlm.processor), pictures, "What happens?", batch_size=1)
    assert together.shape[0] == 6
    assert np.abs(together - alone).max() < 1e-4
    distances = 1 - together @ together.T
    assert distances[~np.eye(6, dtype=bool)].min() > 1e-4


@pytest.mark.slow
def test_copies_for_browsers_keep_their_cap(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    w = make_workspace()
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    files = []
    clips = list(RoundContext(w).clips.values())[:3]
    proxies = Proxies(tmp_path / "proxies", 10**9)
    for clip in clips:
        proxies._plays[clip.content_hash] = False
        files.append(proxies.file(clip, 60))
    sizes = [f.stat().st_size for f in files]
    assert all(f.suffix == ".mp4" and size for f, size in zip(files, sizes, strict=True))
    files[1].unlink()
    os.utime(files[0], (1, 1))
    proxies.file(clips[0], 60)  # looked at again
    os.utime(files[2], (2, 2))
    small = Proxies(tmp_path / "proxies", sizes[0] + sizes[1] + sizes[2] - 1)
    small._plays = dict.fromkeys((c.content_hash for c in clips), False)
    assert small.file(clips[1], 60).exists()
    assert files[0].exists()
    assert not files[2].exists(), "what was not looked at for longest goes"
    late = Proxies(tmp_path / "proxies", 10**9, is_wanted=lambda clip: False)
    late._plays = small._plays
    with pytest.raises(MediaError, match="was taken down"):
        late.file(clips[2], 60)
    assert not list(files[2].parent.iterdir()), "of what was taken down while its copy was made, none stays"


@pytest.mark.slow
def test_a_queue_without_embeddings_is_random(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace(
        "annotate.engine=fake", "review.order=[novelty]", "review.random_share=0", "corpus.anchor_share=0"
    )
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
        context = RoundContext(w)
        context.ask(context.split("train"), by=0, round=1)
    places = list(Queue(w).places())
    assert {place.why for place in places} == {"random"}
    assert len(places) == w.annotations(round=1).filter(pl.col("kind") == "caption").height


@pytest.mark.slow
def test_novelty_by_the_index_goes_by_its_pictures(workspace: Workspace) -> None:
    settings = ["tracking.enabled=false", "review.order=[novelty_by_index]", "review.random_share=0"]
    w = Workspace.open(workspace.root, settings)
    assert {place.why for place in Queue(w).places()} == {"anchor", "random"}, "there is no index"
    rng = np.random.default_rng(2)
    points = {clip_id: rng.normal(size=8).astype(np.float32) for clip_id in sorted(w.clips("train")["id"])}
    points = {clip_id: point / np.linalg.norm(point) for clip_id, point in points.items()}
    clip_of = dict(w.annotations(round=1).select("id", "clip_id").iter_rows())
    with w.lock():
        w.add_vectors([vector_row("m", "video", clip_id, point) for clip_id, point in points.items()])
        w.set_meta(ENCODER, "m")
        annotation_id, seen = next((a, c) for a, c in clip_of.items() if c in points)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        w.add_corrections(
            [
                Correction(
                    id="k", annotation_id=annotation_id, clip_id=seen, verdict="accept", text="", refiner="r", at=at
                )
            ]
        )
    places = [place for place in Queue(w).places() if place.why == "novelty_by_index"]
    order = [clip for place in places if (clip := clip_of[place.annotation_id]) != seen]
    assert order[0] == max(set(points) - {seen}, key=lambda clip: 1 - float(points[clip] @ points[seen]))
    w.database.close()

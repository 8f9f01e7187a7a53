"""Searches by graphs find what a look at all clips finds, whatever they are restricted to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from flywheel.core.types import Clip
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, save_encoder
from flywheel.search.indexing import index
from flywheel.search.searching import Searcher, SearchQuery
from flywheel.store import Workspace
from flywheel.store.vectors import vector_row

SMALL = yaml.safe_load(
    "{width: 16, heads: 2, layers: 1, decoder_width: 8, frames: 1, frame_size: 8, patch: 8, bands: 8, times: 8, "
    "sound_patch: 8, words: 4, vocabulary: 64}"
)
CLIPS = 1500
FACTS = {"fps": 25.0, "width": 8, "height": 8, "has_audio": False, "sounds": "", "split": "train", "cues": ()}


@pytest.mark.slow
def test_a_graph_finds_what_a_look_at_all_finds(
    tmp_path: Path, make_workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace("index.folder=mine", "corpus.most_unreadable=1", "index.graph_above=1000")
    save_encoder(encoders.build("trimodal", **SMALL), w.root / "mine")
    model, rng = encoder_id(w.root / "mine"), np.random.default_rng(0)
    with w.lock():
        places = [("rare" if n % 300 == 0 else "often" if n % 3 == 0 else "other", n) for n in range(CLIPS)]
        w.add_clips(
            Clip(
                id=f"c{n:04d}",
                uri=f"/{kind}/{n}.mp4",
                content_hash=f"h{n}",
                start_s=0.0,
                end_s=1.0,
                transcript="",
                **FACTS,
            )
            for kind, n in places
        )
        for modality, clips in (("video", range(CLIPS)), ("sound", range(0, CLIPS, 5))):
            vectors = rng.normal(size=(len(clips), 16)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            w.add_vectors([vector_row(model, modality, f"c{n:04d}", v) for n, v in zip(clips, vectors, strict=True)])
        exact = Searcher(w)
        assert not any(exact._index.has_graph(name) for name in exact._index.modalities)
        # No clip is new, and yet the call brings the graph up to date. Of sounds there are too few for one.
        assert index(w).video == 0
        assert "1500 vectors of video were put into its graph" in capsys.readouterr().err
    graphed = Searcher(w)
    assert [graphed._index.has_graph(name) for name in ("sound", "video")] == [False, True]
    looked_at = []
    similarities = graphed._index.similarities
    graphed._index.similarities = lambda *what: looked_at.append(what) or similarities(*what)  # type: ignore[method-assign]
    for text in ("a red wall", "two dogs", "rain"):
        for asked in ({}, {"source": "/often/"}, {"source": "/rare/"}, {"split": "test"}):
            query = SearchQuery(text=text, limit=1, **asked)
            assert graphed.search(query) == exact.search(query), asked
    # Never all of them.
    assert all(len(what) == 3 and len(what[2]) < CLIPS for what in looked_at)

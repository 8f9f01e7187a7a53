"""What speaks for showing a text to people: a value for each text of which there is something to say, higher is sooner."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.metrics import token_f1
from flywheel.store import Workspace

#: So many clips are spread over what people have not seen; the rest of the queue has other reasons.
_MOST_NOVEL = 500


def signal(name: str, workspace: Workspace, current: pl.DataFrame, texts: pl.DataFrame) -> dict[str, float]:
    """Annotation id -> value, of the ``current`` texts; ``texts`` are those of all rounds. ``name`` is one of :data:`SIGNALS`."""
    return SIGNALS[name](workspace, current, texts)


def doubt(workspace: Workspace, current: pl.DataFrame, texts: pl.DataFrame) -> dict[str, float]:
    """The less the model believed in its own words (mean log-prob in nats), the higher."""
    return {i: -value for i, value in current.select("id", "mean_logprob").iter_rows()}


def change(workspace: Workspace, current: pl.DataFrame, texts: pl.DataFrame) -> dict[str, float]:
    """One minus the word F1 with the same clip's text of the round before."""
    newest = current["round"][0] if current.height else 0
    earlier = texts.filter((pl.col("source") == "model") & (pl.col("round") < newest)).sort("round")
    before = {(clip_id, kind): text for clip_id, kind, text in earlier.select("clip_id", "kind", "text").iter_rows()}
    now = current.select("id", "clip_id", "kind", "text").iter_rows()
    apart = {i: 1 - token_f1(text, before[c, kind]) for i, c, kind, text in now if (c, kind) in before}
    return {i: value for i, value in apart.items() if value > 0}


def noise(workspace: Workspace, current: pl.DataFrame, texts: pl.DataFrame) -> dict[str, float]:
    """What the last training that saw a clip's text thought of it; a clip keeps its suspicion until people spoke."""
    suspected = workspace.records.read("noise_signals").sort("round")
    clip_of = dict(texts.select("id", "clip_id").iter_rows())
    by_clip = {clip_of[i]: value for i, value in suspected.select("annotation_id", "value").iter_rows() if i in clip_of}
    return {i: by_clip[c] for i, c in current.select("id", "clip_id").iter_rows() if by_clip.get(c, 0) > 0}


def novelty(workspace: Workspace, current: pl.DataFrame, texts: pl.DataFrame) -> dict[str, float]:
    """How far a clip lies from all that people spoke of, and from those before it in this order (farthest first; Gonzalez 1985).

    By the base model's embeddings, which annotation writes where ``review.order`` names novelty; the clips without one have no value.
    """
    points = workspace.records.read("embeddings").unique("clip_id", keep="last", maintain_order=True)
    if points.is_empty():
        return {}
    vectors = np.asarray(points["vector"].list.to_array(len(points["vector"][0])).to_numpy(), dtype=np.float32)
    place = {clip_id: index for index, clip_id in enumerate(points["clip_id"])}
    seen = [place[c] for c in workspace.corrections()["clip_id"].unique(maintain_order=True) if c in place]
    rows = [(i, place[c]) for i, c in current.select("id", "clip_id").iter_rows() if c in place]
    if not rows:
        return {}
    chosen = farthest_first(vectors[[p for _, p in rows]], vectors[seen] if seen else None, min(len(rows), _MOST_NOVEL))
    return {rows[index][0]: distance for index, distance in chosen}


def farthest_first(
    points: NDArray[np.float32], seen: NDArray[np.float32] | None, count: int
) -> list[tuple[int, float]]:
    """``count`` rows of unit vectors (n, d) in the order in which each lies farthest from the ``seen`` (m, d) and those before it; with that
    cosine distance, in [0, 2], which never grows. With nothing seen the first is the farthest from the mean."""
    if seen is None:
        first = int(np.argmin(points @ points.mean(0)))
        nearest = 1.0 - points @ points[first]
        order = [(first, 2.0)]
    else:
        nearest = np.full(len(points), 2.0, dtype=np.float32)
        for start in range(0, len(seen), 1024):
            nearest = np.minimum(nearest, 1.0 - (points @ seen[start : start + 1024].T).max(1))
        order = []
    taken = np.zeros(len(points), dtype=bool)
    taken[[index for index, _ in order]] = True
    while len(order) < count:
        index = int(np.argmax(np.where(taken, -1.0, nearest)))
        order.append((index, float(max(0.0, nearest[index]))))
        taken[index] = True
        nearest = np.minimum(nearest, 1.0 - points @ points[index])
    return order


SIGNALS: Mapping[str, Callable[[Workspace, pl.DataFrame, pl.DataFrame], dict[str, float]]] = {
    "doubt": doubt, "change": change, "noise": noise, "novelty": novelty,
}  # fmt: skip

"""Novelty: the texts of clips that are least like those people have seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flywheel.store.corrections import corrected_clips
from human_refine.signals import TextBatch, Values, clip_keys

#: So many clips are spread over what people have not seen; the rest of the queue has other reasons.
MOST_NOVEL = 500
#: Rows and clips that people saw whose products are in memory at a time: 32 MiB.
_BLOCK, _SEEN = 8192, 1024


def novelty(batch: TextBatch) -> Values:
    """How far a clip lies from all that people spoke of, and from those before it in this order (Gonzalez 1985).

    By the base model's embeddings, which annotation writes where ``review.order`` names novelty; clips without one,
    and all but the first 500, have no value.
    """
    values = np.full(batch.rows.height, np.nan)
    points = batch.workspace.records.read("embeddings").unique("clip_id", keep="last", maintain_order=True)
    if points.is_empty():
        return values
    vectors = np.asarray(points["vector"].list.to_array(len(points["vector"][0])).to_numpy(), dtype=np.float32)
    place = {clip_id: index for index, clip_id in enumerate(points["clip_id"])}
    seen = [place[c] for c in corrected_clips(batch.workspace) if c in place]
    place_by_key = dict(zip(clip_keys(points["clip_id"]).tolist(), range(len(points)), strict=True))
    rows = [(i, place_by_key[key]) for i, key in enumerate(batch.rows["clip"].to_list()) if key in place_by_key]
    if not rows:
        return values
    chosen = farthest_first(vectors[[p for _, p in rows]], vectors[seen] if seen else None, min(len(rows), MOST_NOVEL))
    for index, distance in chosen:
        values[rows[index][0]] = distance
    return values


def farthest_first(
    points: NDArray[np.float32], seen: NDArray[np.float32] | None, count: int
) -> list[tuple[int, float]]:
    """``count`` rows of unit vectors (n, d), each the farthest from the ``seen`` (m, d) and from those before it.

    Each comes with that cosine distance, in [0, 2], which never grows. With nothing seen the first is the farthest
    from the mean.
    """
    if seen is None:
        first = int(np.argmin(points @ points.mean(0)))
        nearest = 1.0 - points @ points[first]
        order = [(first, 2.0)]
    else:
        nearest = np.full(len(points), 2.0, dtype=np.float32)
        for start in range(0, len(seen), _SEEN):
            some = seen[start : start + _SEEN].T
            for begin in range(0, len(points), _BLOCK):
                part = slice(begin, begin + _BLOCK)
                nearest[part] = np.minimum(nearest[part], 1.0 - (points[part] @ some).max(1))
        order = []
    taken = np.zeros(len(points), dtype=bool)
    taken[[index for index, _ in order]] = True
    while len(order) < count:
        index = int(np.argmax(np.where(taken, -1.0, nearest)))
        order.append((index, float(max(0.0, nearest[index]))))
        taken[index] = True
        nearest = np.minimum(nearest, 1.0 - points @ points[index])
    return order

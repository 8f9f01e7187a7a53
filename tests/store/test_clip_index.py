"""The index of clips: views by ids and splits are what passes over the rows give, in few bytes of each clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import Clip, content_id
from flywheel.store import Workspace, mapped
from flywheel.store.clip_index import ClipIndex

Make = Callable[..., Workspace]
SPLITS = ("train", "train", "test", "anchor")


def clip(number: int) -> Clip:
    return Clip(
        id=content_id("clip", number),
        uri=f"/v/{number // 3}.mp4",
        content_hash=f"h{number // 3}",
        start_s=number % 3,
        end_s=number % 3 + 0.5,
        fps=25.0,
        width=64,
        height=64,
        has_audio=False,
        transcript="",
        sounds="",
        split=SPLITS[number % 4],  # type: ignore[arg-type]
    )


CLIPS = [clip(number) for number in range(40)]


@pytest.fixture
def index(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> ClipIndex:
    monkeypatch.setattr(mapped, "_TOGETHER", 3)
    workspace = make_workspace()
    with workspace.lock():
        for start in range(0, len(CLIPS), 7):
            workspace.add_clips(CLIPS[start : start + 7])
    return ClipIndex(workspace)


def test_clips_are_found_by_ids(index: ClipIndex) -> None:
    train = [c for c in CLIPS if c.split == "train"]
    asked = [*(c.id for c in CLIPS[::3]), "of no clip"]
    view = index.of("train")
    assert [c.id for c in view.with_ids(asked)] == [c.id for c in train if c.id in asked]
    assert view.has(pl.Series(asked)).tolist() == [i in {c.id for c in train} for i in asked]
    assert [c.id for c in view.by_id()] == sorted(c.id for c in train)
    assert view.columns("id")["id"].to_list() == [c.id for c in train]
    assert [i in index for i in asked] == [True] * (len(asked) - 1) + [False]
    assert len(view.with_ids([])) == 0


def test_videos_are_numbered(index: ClipIndex) -> None:
    numbers = index.numbered_videos()([*(c.id for c in CLIPS), "of no clip"]).tolist()
    assert numbers.pop() == -1
    assert len({*numbers}) == len({(n, c.content_hash) for n, c in zip(numbers, CLIPS, strict=True)}) == 14
    assert min(numbers) >= 0


def test_sizes_and_bytes(index: ClipIndex, make_workspace: Make) -> None:
    assert index.split_sizes() == {"anchor": 10, "test": 10, "train": 20}
    assert index.seconds() == 20
    held = [value for value in vars(index).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in held) == 13 * len(CLIPS)
    none = ClipIndex(make_workspace(name="empty"))
    assert (none.split_sizes(), none.seconds()) == ({}, 0)
    assert len(none.of("train").with_ids([CLIPS[0].id]).by_id()) == 0

"""Clips found by words: what the index and pages give is what a look through all texts gives."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, LEARN, Annotation, content_id, form_of
from flywheel.store import Workspace, browse, word_index
from flywheel.store.browse import ClipQuery, find_clips
from flywheel.store.columns import SCHEMAS
from flywheel.store.shards import Shard
from flywheel.store.word_index import SEARCHED, WordIndex, word_groups

WORDS = (
    "red",
    "Ball",
    "BALLS",
    "café",
    "ÉTÉ",
    "bell,",
    "left/right",
    "a\tb",
    "two\u2003wide",
    "一只红色的球",
    "ลูกบอล",
    "İx",
)
LOOKED_FOR = (
    *(
        "red",
        "ball",
        "all",
        "ll red",
        "é",
        "été",
        "t/r",
        "left/",
        "/",
        "bell,",
        "b",
        "红色",
        "色红",
        "球",
        "บอล",
        "ix",
        "wide",
    ),
    *("3.mp4", "videos/1", "zebra", "red zebra", "said", "ball said"),
)


def clip(number: int) -> dict[str, Any]:
    empty = {"fps": 25.0, "width": 8, "height": 8, "has_audio": False, "sounds": "", "cues": []}
    where = {"uri": f"/Videos/{number}.mp4", "content_hash": f"h{number}", "start_s": 0.0, "end_s": 1.0}
    words = {"transcript": "said red" if number % 5 == 0 else "", "split": "test" if number % 4 == 0 else "train"}
    return {"id": content_id("clip", number), **where, **empty, **words}


def captions(numbers: range, words: random.Random, kind: str = CAPTION) -> list[Annotation]:
    texts = {clip(n)["id"]: " ".join(words.choices(WORDS, k=4)) for n in numbers}
    told: dict[str, Any] = {"round": 1, "kind": kind, "generation_id": "", "source": "model", "mean_logprob": -0.5}
    return [
        Annotation(id=content_id(1, form_of(kind, LEARN), clip_id), clip_id=clip_id, text=text, **told)
        for clip_id, text in texts.items()
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty clips with captions, and some with cues too, in shards of some rows."""
    folder, words = tmp_path_factory.mktemp("browse") / "w", random.Random(1)
    Workspace.create(folder, template())
    workspace = Workspace.open(folder)
    with workspace.lock(tidy=False):
        for start in range(0, 60, 15):
            workspace.records.append("clips", [clip(n) for n in range(start, start + 15)])
            workspace.add_annotations(captions(range(start, start + 15), words), 1)
        workspace.add_annotations(captions(range(10, 40), words, "dense_caption"), 1)
        workspace.set_stage(1, "annotate", "done", {"also": {"dense_caption": {}}})
    workspace.database.close()
    return folder


@pytest.fixture
def filled(
    written: Path, tmp_path: Path, make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A copy of it, with an index of each few rows' words."""
    monkeypatch.setattr(word_index, "_FEW", 1)
    monkeypatch.setattr(word_index, "SHARD_ROWS", 20)
    monkeypatch.setattr(browse, "_FEW_TOGETHER", 3)
    monkeypatch.setattr(browse, "_TOGETHER", 3)
    shutil.copytree(written, tmp_path / "w")
    workspace = make_workspace()
    WordIndex(workspace.records).complete()
    return workspace


def looked_through(w: Workspace, search: str) -> list[str]:
    """The clips that hold all words, texts first, by a look at all rows."""

    def holding(kind: str, column: str) -> list[str]:
        rows = w.records.read(kind).select(column, text=SEARCHED[kind].str.to_lowercase())
        return [i for i, text in rows.iter_rows() if all(word in text for word in search.lower().split())]

    return list(dict.fromkeys([*holding("annotations", "clip_id"), *holding("clips", "id")]))


def paged(w: Workspace, **query: Any) -> list[str]:
    """The ids of a list, page after page."""
    ids, after = list[str](), ""
    while page := find_clips(w, ClipQuery(after=after, limit=13, **query)):
        ids += [clip.id for clip in page.clips]
        if not page.more:
            return ids
        after = page.after
    raise AssertionError


def test_the_index_says_no_only_where_no_row_holds_the_words(filled: Workspace) -> None:
    index, said_no = WordIndex(filled.records), 0
    for kind, searched in SEARCHED.items():
        for group in word_groups(filled.records.shards(kind)):
            texts = filled.records.of_shards(kind, group, list(SCHEMAS[kind])).select(text=searched)["text"]
            small = texts.str.to_lowercase().to_list()
            for search in LOOKED_FOR:
                words = search.lower().split()
                is_there = any(all(word in text for word in words) for text in small)
                can_be = index.can_hold(kind, group, words)
                assert can_be or not is_there, (search, small)
                # Of signs that are words of their own, and around a "/", the order is not known.
                assert can_be == is_there or not search.isascii() or "/" in search, (search, small)
                said_no += not can_be
    assert said_no > 20


@pytest.mark.slow
@pytest.mark.parametrize("few_texts", [0, 50_000])
def test_words_find_what_a_look_at_all_texts_finds(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch, few_texts: int
) -> None:
    monkeypatch.setattr(browse, "_FEW_TEXTS", few_texts)
    for search in ("ball said", "红色"):
        wanted = looked_through(filled, search)
        assert [clip.id for clip in find_clips(filled, ClipQuery(search=search, limit=100)).clips] == wanted
        assert paged(filled, search=search) == wanted, search
    of_split = set(filled.clips("test")["id"])
    assert paged(filled, search="ball", split="test") == [i for i in looked_through(filled, "ball") if i in of_split]


@pytest.mark.slow
def test_pages_go_on_behind_a_clip_and_offsets_skip_whole_shards(filled: Workspace) -> None:
    ids = filled.clips()["id"].to_list()
    assert paged(filled) == ids
    assert paged(filled, round=1) == ids
    assert paged(filled, source="videos/1") == [content_id("clip", n) for n in (1, *range(10, 20))]
    for offset in (6, 7, 41, 60):
        page = find_clips(filled, ClipQuery(offset=offset, limit=3))
        assert ([clip.id for clip in page.clips], page.more) == (ids[offset : offset + 3], offset + 3 < 60)
    with filled.lock():
        filled.records.compact("clips")
    assert [c.id for c in find_clips(filled, ClipQuery(after=ids[9], limit=2)).clips] == ids[10:12], (
        "shards were merged"
    )
    with pytest.raises(UserError, match="names no clips"):
        find_clips(filled, ClipQuery(after="nothing"))


def test_a_shard_without_the_words_is_not_opened(filled: Workspace) -> None:
    for file in (filled.root / "annotations").rglob("*.parquet"):
        file.unlink()
    assert find_clips(filled, ClipQuery(search="zebra")).clips == []


def test_what_was_taken_down_stands_in_no_file(filled: Workspace) -> None:
    folder = filled.root / "cache" / "words"
    one = filled.records.read("annotations", where=pl.col("text").str.contains("İx"))["clip_id"].unique().to_list()
    with filled.lock(tidy=False):
        filled.records.remove({"annotations": pl.col("clip_id").is_in(one)})
        assert not [file for file in folder.iterdir() if "i̇x".encode() in file.read_bytes()]
    assert looked_through(filled, "ix") == []
    assert find_clips(filled, ClipQuery(search="ix")).clips == []
    assert find_clips(filled, ClipQuery(search="red ball", limit=99)).clips


def test_old_workspaces_and_damaged_files_get_theirs_when_somebody_searches(filled: Workspace) -> None:
    folder = filled.root / "cache" / "words"
    files = sorted(folder.iterdir())
    kept = {file.name: file.read_bytes() for file in files}
    files[0].write_bytes(b"")
    files[1].write_bytes(kept[files[1].name][:-1])
    for file in files[2:]:
        file.unlink()
    for _ in range(2):
        assert find_clips(filled, ClipQuery(search="zebra")).clips == []
    assert {file.name for file in folder.iterdir()} == set(kept)
    # Where none can be written, texts are looked through.
    shutil.rmtree(folder)
    folder.write_bytes(b"a file in the way")
    assert [c.id for c in find_clips(filled, ClipQuery(search="red", limit=99)).clips] == looked_through(filled, "red")
    # And nothing is read for what can't be written.
    [group] = list(word_groups(filled.records.shards("clips")))[:1]
    (filled.root / group[0].name).unlink()
    assert WordIndex(filled.records).can_hold("clips", group, ["red"])


def test_what_is_written_is_indexed_when_the_lock_is_given_back(filled: Workspace) -> None:
    before = set((filled.root / "cache" / "words").iterdir())
    with filled.lock():
        filled.records.append("clips", [clip(n) for n in range(60, 80)])
    assert set((filled.root / "cache" / "words").iterdir()) != before
    shards = {kind: filled.records.shards(kind) for kind in SEARCHED}
    num_groups = sum(len(list(word_groups(some))) for some in shards.values())
    assert len(list((filled.root / "cache" / "words").iterdir())) == num_groups
    assert WordIndex(filled.records).complete() == 0
    assert set(SEARCHED) <= set(SCHEMAS)


def test_large_shards_are_indexed_alone() -> None:
    """A shard that changes, or a new one, leaves the others' files as they are."""

    def shard(name: str, num_rows: int) -> Shard:
        return Shard(name=name, kind="clips", round=None, num_rows=num_rows, first=1, position=1)

    some = [shard("a", 9000), shard("b", 3000), shard("c", 8000), shard("d", 8000), shard("e", 16_384), shard("f", 5)]
    assert [[s.name for s in group] for group in word_groups(some)] == [["a"], ["b", "c"], ["d"], ["e"], ["f"]]

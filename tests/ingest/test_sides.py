"""No video on two sides of the split: whatever is cut, copied, moved, encoded anew, and in whatever order it comes."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.core.config import template
from flywheel.core.errors import MediaError, UserError
from flywheel.ingest import ingest
from flywheel.ingest.clips import clip_id, split_of
from flywheel.ingest.sides import Newcomer, Sides
from flywheel.media.encode import Quality, transcode
from flywheel.media.fingerprint import Fingerprint, Picture, is_alike
from flywheel.store import Workspace, schema
from flywheel.store.videos import LISTED, Video

Make = Callable[..., Workspace]
ROUGH = Quality(crf=36, preset="veryfast", threads=1)


def take(workspace: Workspace, *sources: Path | str) -> tuple[int, int, int]:
    with workspace.lock():
        result = ingest(workspace, [str(s) for s in sources])
    return result.clips, result.known, result.rejected


def remux(source: Path, out: Path) -> Path:
    """The same coded pictures and sound in another container."""
    with av.open(str(source)) as original, av.open(str(out), "w") as copy:
        streams = {s.index: copy.add_stream_from_template(s) for s in original.streams}
        for packet in original.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    return out


# Any files, copies, groups and orders.

#: file, copy (0 itself, 1 remuxed, 2 encoded anew, 3 of this file and the next one), group, whether to write now.
STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=2, max_size=14
)
_examples = itertools.count()


def looks(*files: str) -> Fingerprint:
    """Four pictures; of two files two each."""
    pictures = []
    for place in range(4):
        name = f"{files[place * len(files) // 4]}/{place}"
        digest = hashlib.sha256(name.encode()).digest()
        values = np.frombuffer(digest * 3, dtype=np.uint8)
        bands = tuple(int.from_bytes(digest[4 * b : 4 * b + 2], "big") + (b << 21) for b in range(3))
        pictures.append(Picture(at_s=float(place), values=values, bands=bands))
    return Fingerprint(kept=pictures, seen=pictures)


def made(example: int, file: int, copy: int, group: int) -> Newcomer:
    name, after = f"{example}/{file}", f"{example}/{file + 1}"
    return Newcomer(
        content_hash=hashlib.sha256(f"{name}/{copy}".encode()).hexdigest(),
        duration_s=4.0,
        shared=f"{example}-{group}" if group else "",
        streams=hashlib.sha256(f"{name}/{copy if copy > 1 else 0}".encode()).hexdigest()[:32],
        looks=looks(name, after) if copy == 3 else looks(name),
    )


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("sides") / "w"
    Workspace.create(folder, template())
    workspace = Workspace.open(folder, ["corpus.test_share=0.4", "corpus.anchor_share=0.3"])
    yield Sides(workspace)
    workspace.database.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_comes_no_video_is_on_two_sides(sides: Sides, steps: Sequence[tuple[int, int, int, bool]]) -> None:
    example, placed = next(_examples), dict[str, tuple[Newcomer, Video]]()
    for file, copy, group, writes in steps:
        new = made(example, file, copy, group)
        try:
            video = sides.place(new)
        except MediaError:
            continue
        first = placed.setdefault(new.content_hash, (new, video))
        assert video.side == first[1].side, "a video that comes again, from another folder or cut otherwise"
        if writes:
            sides.write()
    sides.write()
    on_record = sides.videos.known(placed)
    assert {h: v.side for h, v in on_record.items()} == {h: v.side for h, (_, v) in placed.items()}
    for (a, of_a), (b, of_b) in itertools.combinations(placed.values(), 2):
        belong = (
            a.streams == b.streams
            or (a.shared and a.shared == b.shared)
            or is_alike(a.looks.seen, of_b.pictures)
            or is_alike(b.looks.seen, of_a.pictures)
        )
        if belong:
            assert of_a.side == of_b.side
            assert on_record[a.content_hash].family == on_record[b.content_hash].family, "drawn anew they stay together"


# Real files.


@pytest.fixture
def video(corpus: Path) -> Path:
    return corpus / "corpus" / "clip-00000.mp4"


def split_by_name(workspace: Workspace) -> dict[str, str]:
    clips = workspace.clips()
    assert clips.group_by("content_hash").agg(pl.col("split").n_unique())["split"].max() == 1
    return {Path(uri).name: split for uri, split in clips.select("uri", "split").iter_rows()}


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_copies_are_on_one_side_whichever_comes_first(
    make_workspace: Make, video: Path, corpus: Path, tmp_path: Path, order: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(video, folder / "original.mp4")
    transcode(video, folder / "rough.mp4", quality=ROUGH)
    transcode(video, folder / "small.mp4", quality=ROUGH, max_side=128)
    transcode(video, folder / "trimmed.mp4", quality=ROUGH, start_s=0.7)
    remux(video, folder / "matroska.mkv")
    remux(video, folder / "stream.ts")
    others = sorted((corpus / "corpus").glob("*.mp4"))[1:6]
    names = sorted(path.name for path in folder.iterdir())[::order]
    w = make_workspace("corpus.test_share=0.4", "corpus.anchor_share=0.3")
    assert take(w, *others) == (5, 0, 0)
    for name in names:
        assert take(w, folder / name) == (1, 0, 0)
    sides = split_by_name(w)
    assert len({sides[name] for name in names}) == 1
    assert len({w.videos.known([h])[h].family for h in w.clips()["content_hash"]}) == 6, "others are no copies"


@pytest.mark.slow
def test_a_file_that_is_one_clip_is_drawn_as_it_always_was(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace()
    take(w, *sorted((corpus / "corpus").glob("*.mp4"))[:8])
    clips = w.clips()
    drawn = [split_of(i, w.config.corpus) for i in clips["id"]]
    assert clips["split"].to_list() == drawn
    assert len(set(drawn)) > 1


@pytest.mark.slow
def test_all_cuts_of_a_video_are_on_its_side(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    files = sorted((corpus / "corpus").glob("*.mp4"))[:4]
    w = make_workspace("corpus.split_by=length", "corpus.clip_len_s=0.6")
    take(w, *files[:2])
    before = split_by_name(w)
    rows = [{"video": str(f), "start_s": s, "end_s": s + 0.9} for f in files for s in (0.1, 0.5, 1.3)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert take(w, tmp_path / "list.jsonl")[0] == 12
    after = split_by_name(w)
    assert before.items() <= after.items()
    durations = {h: w.clips().filter(content_hash=h)["end_s"].max() for h in w.clips()["content_hash"]}
    whole = {h: split_of(clip_id(h, 0.0, durations[h]), w.config.corpus) for h in w.clips().head(10)["content_hash"]}
    cut = dict(w.clips().head(10).select("content_hash", "split").iter_rows())
    assert cut == whole, "drawn as the file would be in one piece"


@pytest.mark.slow
def test_who_joins_videos_of_two_sides_is_refused_and_both_are_named(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace()
    files = sorted((corpus / "corpus").glob("*.mp4"))
    take(w, *files)
    clips = {split: w.clips(split).to_dicts()[0] for split in ("train", "test")}
    known = w.videos.known([c["content_hash"] for c in clips.values()])
    pictures = [
        Picture(at_s=float(at), values=values, bands=())
        for video in known.values()
        for at, values in np.frombuffer(video.pictures, dtype=[("at_s", "<f4"), ("values", "u1", 96)]).tolist()
    ]
    bands = w.database.engine.connect().execute(sql.select(schema.looks_like.c.band)).scalars().all()
    seen = [Picture(at_s=p.at_s, values=np.array(p.values, dtype=np.uint8), bands=tuple(bands)) for p in pictures]
    sides = Sides(w)
    both = Newcomer(content_hash="f" * 64, duration_s=3.0, looks=Fingerprint(kept=seen[:4], seen=seen))
    with pytest.raises(MediaError, match="videos of the test split and the train split; 'flywheel resplit'"):
        sides.place(both)
    sides.write()
    assert not w.videos.known(["f" * 64])
    with w.database.transaction() as connection:
        pairs = connection.execute(sql.select(schema.joined)).all()
    assert [set(pair) for pair in pairs] == [{video.family for video in known.values()}]


@pytest.mark.slow
def test_what_a_source_says_belongs_together_is_on_one_side(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    files = sorted((corpus / "corpus").glob("*.mp4"))
    rows = [{"video": str(f), "speaker": f"speaker {i % 3}"} for i, f in enumerate(files)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"video": str(files[0])}]))
    w = make_workspace("corpus.split_key=speaker", "corpus.test_share=0.4", "corpus.anchor_share=0.3")
    assert take(w, tmp_path / "list.jsonl") == (20, 0, 1)
    assert w.rejected()["reason"].to_list() == ["line 21: says no 'speaker' (corpus.split_key)"]
    sides = split_by_name(w)
    assert [len({sides[f.name] for f in files[i::3]}) for i in range(3)] == [1, 1, 1]
    with pytest.raises(UserError, match=r"files have no column 'speaker' \(corpus.split_key\)"):
        take(w, files[0])
    for i, f in enumerate(files[:6]):
        (tmp_path / f"show {i % 2}").mkdir(exist_ok=True)
        shutil.copy(f, tmp_path / f"show {i % 2}" / f.name)
    folders = make_workspace("corpus.split_key=folder", "corpus.test_share=0.4", "corpus.anchor_share=0.3", name="f")
    assert take(folders, tmp_path / "show 0", tmp_path / "show 1")[0] == 6
    sides = split_by_name(folders)
    assert [len({sides[f.name] for f in files[i:6:2]}) for i in range(2)] == [1, 1]


def test_an_older_workspace_keeps_its_splits_and_measures_by_no_more_of_a_divided_video(
    make_workspace: Make, corpus: Path, tmp_path: Path
) -> None:
    file = corpus / "corpus" / "clip-00003.mp4"
    w = make_workspace("corpus.split_by=length", "corpus.clip_len_s=0.6")
    take(w, file)
    clips = w.clips().to_dicts()
    # As versions before had it: drawn clip by clip, and no list of videos.
    with w.lock():
        w.records.remove({"clips": pl.lit(True)})
        rows = [{**c, "split": ("test", "train")[i % 2]} for i, c in enumerate(clips)]
        w.records.append("clips", rows)
        with w.database.transaction() as connection:
            connection.execute(sql.delete(schema.videos))
            connection.execute(sql.delete(schema.meta).where(schema.meta.c.key == LISTED))
    (tmp_path / "list.jsonl").write_text(json.dumps({"video": str(file), "start_s": 0.2, "end_s": 1.0}) + "\n")
    assert take(w, tmp_path / "list.jsonl") == (1, 0, 0)
    assert w.clips()["split"].to_list() == [*(row["split"] for row in rows), "train"]
    assert w.videos.count(divided=True) == w.videos.count() == 1

"""What is taken in is what commit 4262363 took in: clips, texts, rejects and counts, on files of the same bytes.

But for the split: clips were drawn one by one, now all clips of a video are on one side. And for the text of a row
whose video another row gave without one: it was lost, now it is the clip's.

``before/expected.json`` is what :func:`intake` returned there. The manifest has spans (of some files dozens, over more
than one batch of 128), whole files twice and after their spans, times that lie outside, and damaged files.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.ingest import ingest
from flywheel.store import Workspace

BEFORE = Path(__file__).parent / "before"
#: The text of a row of the manifest, of a file that a row before gives without one.
LATER = "twice"


def intake(workspace: Workspace, folder: Path, source: str) -> dict[str, Any]:
    """Counts of an ingest and of the same again, and all rows without what is of this machine."""

    def named(uri: str) -> str:
        return str(Path(uri).relative_to(folder))

    counts = []
    for _ in range(2):
        with workspace.lock():
            result = ingest(workspace, [str(folder / source)])
        # What got words after its clip was counted as known, too.
        counts.append([result.clips, result.known + result.new_texts, result.rejected])
    clips = [{**row, "uri": named(row["uri"])} for row in workspace.clips().to_dicts()]
    texts = workspace.annotations(round=0).select("id", "clip_id", "source", "text").rows()
    # Where a file ends before its time is said since then, and spans of a file that fail alike are rows of their own.
    rejected = {
        (named(r["uri"]), r["stage"], re.sub(r"; it is cut off after \d+ bytes: copy it again", "", r["reason"]))
        for r in workspace.rejected().to_dicts()
    }
    return {
        "counts": counts,
        "clips": [list(clip.values()) for clip in clips],
        "texts": sorted(map(list, texts)),
        "rejected": sorted(map(list, rejected)),
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    shutil.copytree(BEFORE, tmp_path / "files", ignore=shutil.ignore_patterns("expected.json"))
    return tmp_path / "files"


@pytest.mark.parametrize("source", ["list.jsonl", "."])
@pytest.mark.parametrize("split_by", ["none", "length", "scene"])
@pytest.mark.slow
def test_clips_texts_and_rejects_are_the_same(
    make_workspace: Callable[..., Workspace], files: Path, source: str, split_by: str
) -> None:
    expected = json.loads((BEFORE / "expected.json").read_text())[f"{source} {split_by}"]
    workspace = make_workspace(f"corpus.split_by={split_by}", "corpus.clip_len_s=2")
    found = json.loads(json.dumps(intake(workspace, files, source)))
    assert found["counts"] == expected["counts"]
    assert found["rejected"] == expected["rejected"]
    names = list(workspace.clips().columns)
    place = names.index("split")
    later = {text[1]: LATER for text in found["texts"] if text[3] == LATER}
    said = names.index("transcript")
    expected["clips"] = [[*c[:said], later.get(c[0], c[said]), *c[said + 1 :]] for c in expected["clips"]]
    expected["texts"] = sorted([*expected["texts"], *(text for text in found["texts"] if text[3] == LATER)])
    assert bool(later) == (source == "list.jsonl")
    without = [[clip[:place] + clip[place + 1 :] for clip in of["clips"]] for of in (found, expected)]
    assert without[0] == without[1], "in the same order, too"
    if (source, split_by) == (".", "none"):
        assert found["clips"] == expected["clips"], "a file that is one clip is drawn as it was"
    by_video = workspace.clips().group_by("content_hash").agg(pl.col("split").n_unique())
    assert by_video["split"].max() == 1
    assert found["texts"] == expected["texts"]

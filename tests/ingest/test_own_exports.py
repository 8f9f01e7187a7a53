"""Each format of ours comes back in as it went out: the same videos, spans and texts, and nothing rejected."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.types import Cue
from flywheel.formats import export
from flywheel.formats.rows import ExportRow
from flywheel.ingest import ingest
from flywheel.ingest.passed import Passed
from flywheel.ingest.sources import items
from flywheel.store import Workspace

TEXTS = ("A bell & <b>3 > 2</b> rings.", 'Es "läutet", 日本.')


def row(video: Path, number: int) -> ExportRow:
    """A row of seconds 0.5 to 2.5 of a video; its clip as a file is the whole video."""

    def write(path: Path) -> str:
        shutil.copy(video, path)
        return ".mp4"

    cue = Cue(start_s=0.25, end_s=1.5, text=TEXTS[number])
    return ExportRow(
        id=f"clip{number}",
        uri=str(video),
        start_s=0.5,
        end_s=2.5,
        fps=10.0,
        split="train",
        text=TEXTS[number],
        source="human" if number else "model",
        round=1,
        annotation_id=f"a{number}",
        cues=(cue,) if number else (),
        video=write,
    )


NAMES = [name for name in export.names() if export.get(name).write.__module__.startswith("flywheel.")]


def written(name: str, tmp_path: Path, corpus: Path) -> tuple[Path, Path]:
    """A dataset of two clips in this format, and the folder of their videos."""
    originals, out = tmp_path / "originals", tmp_path / "out"
    originals.mkdir()
    out.mkdir()
    videos = [Path(shutil.copy(video, originals)) for video in sorted((corpus / "corpus").glob("*.mp4"))[:2]]
    export.get(name).write(iter([row(video, number) for number, video in enumerate(videos)]), out)
    (out / "README.md").write_text("card\n")
    return out, originals


@pytest.mark.parametrize("name", NAMES)
def test_what_went_out_is_read(tmp_path: Path, corpus: Path, name: str) -> None:
    out, _ = written(name, tmp_path, corpus)
    passed = Passed()
    found = sorted(items(str(out), tmp_path / "media", passed=passed), key=lambda item: item.transcript or "")
    assert [(item.problem, item.transcript, item.others) for item in found] == [("", t, 0) for t in sorted(TEXTS)]
    for item in found:
        assert item.path.is_file()
        assert (item.start_s, item.end_s) in ((0.5, 2.5), (None, None))
    if name in ("label-studio", "webvtt"):
        timed = next(item.cues for item in found if item.transcript == TEXTS[1])
        assert timed == (Cue(start_s=0.75, end_s=2.0, text=TEXTS[1]),)
    assert set(passed.counts) <= {".md", ".json"}, "its card, and what names its columns to others"


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("name", NAMES)
def test_what_went_out_comes_in(
    make_workspace: Callable[..., Workspace], corpus: Path, tmp_path: Path, name: str, elsewhere: bool
) -> None:
    out, originals = written(name, tmp_path, corpus)
    keeps_clips = any(out.rglob("*.mp4")) or any(out.rglob("*.tar"))
    if elsewhere:
        shutil.rmtree(originals)
    w = make_workspace()
    with w.lock():
        result = ingest(w, [str(out)])
    if elsewhere and not keeps_clips:
        assert result.rejected == 2, "it names videos that are not there"
        return
    assert (result.clips, result.known, result.rejected, result.other_texts) == (2, 0, 0, 0), w.rejected()["reason"]
    clips = w.clips()
    assert sorted(clips["transcript"]) == sorted(TEXTS)
    spans = clips.select("start_s", "end_s").rows()
    assert spans == [(0.5, 2.5)] * 2 or (keeps_clips and all(start == 0 and end > 3 for start, end in spans))

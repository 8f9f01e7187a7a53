"""The stage `retrieve`: encoders that learn from true and from false texts, asked by people's words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.core.types import Annotation, Correction
from flywheel.ingest import ingest
from flywheel.media.encode import Quality, write_video
from flywheel.metrics.intervals import mean_estimate
from flywheel.rounds import RoundContext
from flywheel.rounds.figures import figure_of
from flywheel.rounds.retrieval import Retrieved
from flywheel.rounds.stages.retrieve import STAGE
from flywheel.store import Workspace

_COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "white": (235, 235, 235),
    "black": (15, 15, 15),
    "yellow": (230, 220, 40),
}
_SMALL = (
    "index.sizes={width: 32, heads: 2, layers: 1, decoder_width: 16, frames: 1, frame_size: 8, patch: 8, bands: 8, "
    "times: 8, sound_patch: 8, words: 6, vocabulary: 256}"
)


@pytest.fixture
def context(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> RoundContext:
    """Videos of one colour each; round 0 calls all of them by the wrong name, round 1 by the right one."""
    folder, rng = tmp_path / "videos", np.random.default_rng(0)
    folder.mkdir()
    for number in range(36):
        name, colour = list(_COLOURS.items())[number % len(_COLOURS)]
        frame = np.clip(np.array(colour) + rng.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
        file = folder / f"{name}-{number}.mp4"
        write_video(
            file, [frame] * 3, size=(32, 32), fps=3, quality=Quality(crf=28, preset="ultrafast", threads=1), sound=None
        )
        file.with_suffix(".txt").write_text(f"a {rng.choice(list(_COLOURS))} wall")
    w = make_workspace(
        "corpus.near_duplicates=false",
        "corpus.anchor_share=0.4",
        "index.batch=16",
        "index.rate=0.004",
        "retrieve.steps=8",
        "retrieve.least=5",
        _SMALL,
    )
    with w.lock():
        ingest(w, [str(folder)])
        w.add_annotations([written(row["id"], Path(row["uri"]).name) for row in w.clips().iter_rows(named=True)], 1)
    return RoundContext(w)


def written(clip_id: str, file: str) -> Annotation:
    text = f"a {file.partition('-')[0]} wall"
    facts = {"kind": "caption", "generation_id": "", "source": "model", "mean_logprob": 0.0}
    return Annotation(id=f"a{clip_id}", round=1, clip_id=clip_id, text=text, **facts)


def accept(context: RoundContext) -> None:
    w = context.workspace
    with w.lock():
        w.add_corrections(
            [
                Correction(
                    id=f"k{clip.id}",
                    annotation_id=f"a{clip.id}",
                    clip_id=clip.id,
                    verdict="accept",
                    text="",
                    refiner="r",
                    at=datetime(2026, 1, 1, tzinfo=UTC),
                )
                for clip in context.split("anchor")
            ]
        )


@pytest.mark.slow
def test_each_round_s_texts_are_asked_for_the_same_anchors(
    context: RoundContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = STAGE.run(context, 1)
    assert (nothing, STAGE.figures(nothing)) == (Retrieved(), {})
    assert "0 anchors have people's words, and it takes 5: not measured" in capsys.readouterr().err
    accept(context)
    context = RoundContext(context.workspace)
    # Killed after the first arm, which is not trained again.
    from flywheel.rounds import retrieval

    found: list[np.ndarray] = []
    found_first = retrieval.found_first

    def killed(*what: Any) -> np.ndarray:
        raise KeyboardInterrupt

    def noted(*what: Any) -> np.ndarray:
        if found:
            # An anchor that can't be read any more when the second is asked.
            Path(context.workspace.clips("anchor")["uri"][0]).unlink()
            shutil.rmtree(context.workspace.root / "cache")
        found.append(found_first(*what))
        return found[-1]

    with monkeypatch.context() as kill:
        kill.setattr(retrieval, "found_first", killed)
        with context.workspace.lock(), pytest.raises(KeyboardInterrupt):
            STAGE.run(context, 1)
    capsys.readouterr()
    monkeypatch.setattr(retrieval, "found_first", noted)
    with context.workspace.lock():
        done = STAGE.run(context, 1)
    assert capsys.readouterr().err.count("encoder: 8/8") == 1
    assert Retrieved.from_record(done.to_record()) == done
    figures = STAGE.figures(done)
    own, other = found
    assert len(own) == len(other) == done.asked == len(context.split("anchor")) >= 5
    assert (done.chance, done.recall) == (1 / done.asked, mean_estimate(own))
    assert done.gains == {"round 0": mean_estimate(own - other)}
    assert done.learned == dict.fromkeys(("round 1", "round 0"), len(context.split("train")))
    assert figures["retrieve/recall_at_1"] == own.mean()
    assert figures["retrieve/gain_over_round_0"] == pytest.approx((own - other).mean())
    assert figure_of("retrieve/recall_at_1").good == "up"
    assert not (context.workspace.root / "models" / "round=001" / "retrieve").exists()

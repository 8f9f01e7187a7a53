"""The stage `retrieve`: encoders that learn from true and from false texts, asked by people's words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from flywheel.core.types import Annotation, Correction
from flywheel.ingest import ingest
from flywheel.media.encode import Quality, write_video
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
    for number in range(60):
        name, colour = list(_COLOURS.items())[number % len(_COLOURS)]
        frame = np.clip(np.array(colour) + rng.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
        file = folder / f"{name}-{number}.mp4"
        write_video(
            file, [frame] * 3, size=(32, 32), fps=3, quality=Quality(crf=28, preset="ultrafast", threads=1), sound=None
        )
        file.with_suffix(".txt").write_text(f"a {rng.choice(list(_COLOURS))} wall")
    w = make_workspace(
        "corpus.near_duplicates=false",
        "corpus.anchor_share=0.3",
        "index.batch=16",
        "index.rate=0.004",
        "retrieve.steps=60",
        "retrieve.least=10",
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
def test_true_texts_find_more_than_those_of_round_0(
    context: RoundContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = STAGE.run(context, 1)
    assert (nothing, STAGE.figures(nothing)) == (Retrieved(), {})
    assert "0 anchors have people's words, and it takes 10: not measured" in capsys.readouterr().err
    accept(context)
    context = RoundContext(context.workspace)
    # Killed after the first arm, which is not trained again.
    from flywheel.rounds import retrieval

    trained, hits = [], retrieval.found_first

    def killed(*what: object) -> object:
        trained.append(what)
        if len(trained) == 1:
            raise KeyboardInterrupt
        return hits(*what)

    with monkeypatch.context() as kill:
        kill.setattr(retrieval, "found_first", killed)
        with context.workspace.lock(), pytest.raises(KeyboardInterrupt):
            STAGE.run(context, 1)
    capsys.readouterr()
    with context.workspace.lock():
        done = STAGE.run(context, 1)
    assert capsys.readouterr().err.count("encoder: 60/60") == 1
    assert Retrieved.from_record(done.to_record()) == done
    figures = STAGE.figures(done)
    # Three clips of a colour can't be told apart: 1 of them comes first.
    assert done.asked >= 10
    assert figures["retrieve/recall_at_1"] >= 2 * done.chance
    assert figures["retrieve/gain_over_round_0"] >= 0.1, figures
    assert list(done.gains) == ["round 0"]
    assert figure_of("retrieve/recall_at_1").good == "up"
    assert not (context.workspace.root / "models" / "round=001" / "retrieve").exists()

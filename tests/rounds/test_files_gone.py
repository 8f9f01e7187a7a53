"""A disk that is away is no reject: the stage stops, nothing is on record, and it goes on when the disk is back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.reading import Unreadable
from flywheel.core.types import MEASURE
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.conductor import evaluate_again
from flywheel.rounds.stages import pretrain
from flywheel.status import status_of
from flywheel.store import Workspace
from flywheel.store.view import clip_of
from tests.plugins import Command

FAST = (
    "models.main.engine=fake",
    "evaluate.agreement_pairs=0",
    "evaluate.resamples=100",
    "pretrain.num_steps=0",
    "finetune.num_steps=0",
)


@pytest.fixture
def moved(ingested: Workspace, tmp_path: Path) -> Callable[[], None]:
    """Takes the corpus away, and the next time puts it back; each workspace has a folder of videos of its own."""
    here, away = tmp_path / "videos", tmp_path / "away"
    here.mkdir()
    with ingested.lock():
        clips = [clip_of(row) for row in ingested.clips().to_dicts()]
        for clip in clips:
            os.link(clip.uri, here / Path(clip.uri).name)
        with ingested.database.transaction() as connection:
            connection.exec_driver_sql(
                f"UPDATE locations SET uri = replace(uri, '{Path(clips[0].uri).parent}', '{here}')"
            )

    def move() -> None:
        here.rename(away) if here.exists() else away.rename(here)

    return move


@pytest.mark.slow
def test_a_corpus_away_stops_the_stage_and_nothing_is_rejected(
    moved: Callable[[], None],
    make_workspace: Callable[..., Workspace],
    commandline: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    w = make_workspace(*FAST)
    moved()
    with (
        w.lock(),
        pytest.raises(Unreadable, match=r"round 0 evaluation: \d of \d clips can't be read: .*gone.*mounted"),
    ):
        run_round(RoundContext(w), until="annotate")
    assert w.rejected().is_empty()
    assert w.stage(0, "evaluate")[0] == "running"
    settings = [part for value in FAST for part in ("--set", value)]
    assert commandline("annotate", "--config", w.root, "--set", "tracking.enabled=false", *settings) == 1
    assert "Is the disk mounted?" in capsys.readouterr().err
    moved()
    with w.lock():
        run_round(RoundContext(w), until="annotate")
    assert w.count_texts(1) == len(w.clips("train"))
    assert w.count_texts(0, purpose=MEASURE) == len(w.clips("test"))


@pytest.mark.slow
def test_one_file_gone_is_a_reject_that_evaluation_mends_when_it_is_back(
    moved: Callable[[], None], make_workspace: Callable[..., Workspace]
) -> None:
    w = make_workspace(*FAST, "corpus.most_unreadable=1")
    context = RoundContext(w)
    gone = Path(context.split("test")[0].uri)
    kept = gone.with_suffix(".kept")
    gone.rename(kept)
    with w.lock():
        run_round(context, until="annotate")
        assert w.rejected(open_only=True)["uri"].to_list() == [str(gone)]
        assert f"1 x annotate: the file is gone ({gone})" in str(status_of(w))
        before = w.stage(0, "evaluate")[1]["quantity"]
        assert evaluate_again(context) == {0: 0}
        kept.rename(gone)
        assert evaluate_again(context) == {0: 1}
        assert evaluate_again(context) == {}
    assert w.count_texts(0, purpose=MEASURE) == len(w.clips("test"))
    assert w.stage(0, "evaluate")[1]["quantity"] != before
    assert w.rejected(open_only=True).is_empty()


@pytest.mark.slow
def test_training_goes_on_without_a_file_that_is_gone(
    moved: Callable[[], None], make_workspace: Callable[..., Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    fast = [value for value in FAST if "pretrain" not in value]
    w = make_workspace(*fast, "pretrain.num_steps=2", "pretrain.batch_size=2", "loss.name=mle", "pretrain.eval_share=0")
    context = RoundContext(w)
    with w.lock():
        run_round(context, until="annotate")
        gone = context.split("train")[0]
        Path(gone.uri).unlink()
        w.cache.max_bytes = 0
        w.cache.trim()
        result = pretrain.run(context, 1)
        assert (result.steps, result.unreadable) == (2, 1)
        assert result.unreadable_files == [f"{gone.uri}: the file is gone"]
        assert (
            f"1 clips were left out, since they can't be read: {gone.uri}: the file is gone" in capsys.readouterr().err
        )
        assert gone.id not in w.examples(round=1)["clip_id"].to_list()
        assert f"1 x pretrain: the file is gone ({gone.uri})" in str(status_of(w))
        # Put on record again from what lies beside the weights.
        again = pretrain.run(context, 1)
        assert (again.unreadable, again.unreadable_files) == (1, result.unreadable_files)
        w.begin_round(2, ["annotate"])
        w.set_stage(2, "annotate", "running", {})
    assert w.rejected(open_only=True).is_empty(), "another training may read it"

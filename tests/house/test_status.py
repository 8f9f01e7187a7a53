"""Where a workspace stands and a clip's history: the right figures, from no more rows than they need."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Clip, Correction, Generation, Split
from flywheel.playground.drawn import TOY_NOTICE
from flywheel.rounds.home import home_of
from flywheel.status import history_of, status_of, uses_of
from flywheel.store import Workspace
from flywheel.store.people import add_exclusion
from flywheel.store.records import Records
from flywheel.store.view import clip_of

Make = Callable[..., Workspace]
TOO_FEW = (
    "No round can be promoted by the gate: it needs 8 anchor videos (gate.min_anchors), and the corpus has 2: "
    "add some 60 videos."
)
FEW_TESTED = (
    "The test split has 2 videos: a round's figures of quality say little under 8. "
    "To have as many, add some 30 videos, or raise corpus.test_share and run 'flywheel resplit'."
)
SPLITS: tuple[Split, ...] = ("train", "train", "test", "anchor")


def filled(make: Make, num_clips: int = 8) -> Workspace:
    """A workspace whose clips have a caption and an evaluation text each, in one round."""
    w = make()
    w.add_clips(
        [
            Clip(
                id=f"{i:02d}clip",
                uri=f"/videos/{i}.mp4",
                content_hash=f"h{i}",
                start_s=0.0,
                end_s=2.0,
                fps=24.0,
                width=8,
                height=8,
                has_audio=False,
                transcript="words",
                sounds="",
                split=SPLITS[i % 4],
            )
            for i in range(num_clips)
        ]
    )
    w.locate({"h1": "/elsewhere/1.mp4"})
    w.add_generations(
        [
            Generation(
                id=f"g{i}",
                clip_id=f"{i:02d}clip",
                prompt="p",
                model="m",
                adapter="a" * (i % 2),
                sampling="s",
                candidate=0,
                text=f"text {i}",
                token_ids=(1, 2),
                logprobs=(-0.5, -0.5),
                tokens_in=9,
                tokens_out=2,
                seconds=0.1,
                finish="stop",
            )
            for i in range(num_clips)
        ]
    )
    w.add_annotations(
        [
            Annotation(
                id=f"a{i}{purpose}",
                round=1,
                kind="caption",
                clip_id=f"{i:02d}clip",
                generation_id=f"g{i}",
                source="model",
                text=f"text {i}",
                mean_logprob=-0.5,
                purpose=purpose,
            )
            for i in range(num_clips)
            for purpose in ("learn", "measure")
        ],
        round=1,
    )  # type: ignore[arg-type]
    w.add_corrections(
        [
            Correction(
                id="c1",
                annotation_id="a1learn",
                clip_id="01clip",
                verdict="edit",
                text="better",
                refiner="Ann",
                at=datetime(2026, 1, 1, tzinfo=UTC),
            ),
            Correction(
                id="c2",
                annotation_id="a2learn",
                clip_id="02clip",
                verdict="accept",
                text="",
                refiner="Bob",
                at=datetime(2026, 1, 2, tzinfo=UTC),
            ),
        ]
    )
    use = {
        "stage": "finetune",
        "source": "human",
        "use": "learned",
        "weight": 1.0,
        "text_hash": "t",
        "corrections": ["c1"],
    }
    w.add_examples([{**use, "clip_id": "01clip", "annotation_id": "a1learn"}], round=1)
    return w


def text(name: str) -> Annotation:
    """A text of the first clip."""
    return Annotation(
        id=name, round=1, kind="caption", clip_id="00clip", generation_id="", source="model", text="x", mean_logprob=0.0
    )


def word(annotation_id: str, verdict: str, refiner: str, day: int) -> Correction:
    """What somebody says of a text on that day of January."""
    return Correction(
        id=f"{annotation_id}{verdict}{refiner}{day}",
        annotation_id=annotation_id,
        clip_id="00clip",
        verdict=verdict,  # type: ignore[arg-type]
        text="better still" if verdict == "edit" else "",
        refiner=refiner,
        at=datetime(2026, 1, day, tzinfo=UTC),
    )


def reject(w: Workspace, clip_id: str, reason: str, round: int = 1) -> None:
    w.add_rejected(round=round, stage="annotate", uri=f"/videos/{clip_id}", clip_id=clip_id, reason=reason)


def test_status_has_all_its_fields(make_workspace: Make) -> None:
    w = filled(make_workspace)
    reject(w, "07clip", "a loop", round=2)
    reject(w, "06clip", "a loop", round=2)
    reject(w, "05clip", "cut off", round=2)
    reject(w, "04clip", "cut off, and then written", round=1)
    w.add_rejected(round=0, stage="ingest", uri="/videos/broken.mp4", clip_id="", reason="no video stream")
    w.add_rejected(round=0, stage="ingest", uri="/elsewhere/1.mp4", clip_id="", reason="taken in since")
    w.set_stage(1, "annotate", "done", {})
    w.set_stage(1, "review", "waiting", {"message": "round 1 waits"})
    w.set_stage(1, "finetune", "done", {"skipped": "2 tune corrections, 4 needed"})
    w.add_annotations([replace(text("t"), source="transcript", round=0)], round=0)
    # What was skipped, taken back, said before or by somebody who is left out does not count.
    said = [("a3learn", "skip", "Ann", 3), ("a1learn", "edit", "Ann", 4), ("a4learn", "accept", "Ann", 5)]
    said += [("a4learn", "withdraw", "Ann", 6), ("a5learn", "accept", "Eve", 7)]
    w.add_corrections([word(*one) for one in said])
    add_exclusion(w, "Eve", excluded=True, reason="guesses")
    assert status_of(w).to_json() == {
        "round": 1,
        "stage": "review",
        "state": "waiting",
        "message": "round 1 waits",
        "schedule": None,
        "unseen_adapters": [],
        "champion": {"round": 0},
        "clips": {"anchor": 2, "test": 2, "train": 4},
        "annotations": 16,
        "transcripts": 1,
        "generations": 8,
        "corrections": 2,
        "open_rejects": 4,
        "reject_reasons": [
            {"stage": "annotate", "reason": "a loop", "rows": 2, "files": ["/videos/07clip", "/videos/06clip"]},
            {"stage": "annotate", "reason": "cut off", "rows": 1, "files": ["/videos/05clip"]},
            {"stage": "ingest", "reason": "no video stream", "rows": 1, "files": ["/videos/broken.mp4"]},
        ],
        "damage": "",
        "leak": None,
        "skipped": [{"round": 1, "stage": "finetune", "reason": "2 tune corrections, 4 needed"}],
        "rounds": [],
        "gate": {"have": 0, "need": 8, "possible": 2},
        "queue": 6,
        "captions": 8,
        "rejects": 4,
        "impossible": [TOO_FEW, FEW_TESTED],
        "notice": TOY_NOTICE,
        "next": [
            "flywheel invite --name NAME  # a link for whoever corrects captions",
            "flywheel review  # the page where captions are corrected",
            "flywheel round  # once they are through",
            "flywheel rejects  # what failed, and why",
        ],
    }
    assert list(status_of(w).to_json())[:6] == ["round", "stage", "state", "message", "schedule", "champion"]
    lines = str(status_of(w))
    assert "annotations: 16 by models (of 8 generations), 1 that came with the videos\ncorrections: 2\n" in lines
    gate = "gate: 0 of at least 8 anchor videos have a corrected caption (the corpus has 2)"
    block = f"{TOY_NOTICE}\n{gate}\nto review: 6 of 8 captions\n{TOO_FEW}\n{FEW_TESTED}\n"
    skipped, _, shown = lines.removeprefix(block).partition("\n")
    assert skipped == "round 1: finetune was skipped (2 tune corrections, 4 needed)"
    assert shown.startswith(
        "round 1: review is waiting (round 1 waits)\nchampion: the base model\nclips: 2 anchor, 2 test"
    )
    assert "files and texts that failed: 4\n  2 x annotate: a loop (/videos/07clip, /videos/06clip)\n" in lines
    with pytest.raises(dataclasses.FrozenInstanceError):
        status_of(w).round = 2  # type: ignore[misc]


def test_an_empty_workspace_has_a_status(make_workspace: Make) -> None:
    status = status_of(make_workspace())
    assert (status.round, status.stage, status.clips, status.open_rejects) == (1, "annotate", {}, 0)
    assert "clips: none" in str(status)


def test_status_opens_no_texts_to_count_them(make_workspace: Make) -> None:
    """Counts come from the ledger: a shard that can't be read is counted as well as any other."""
    w = filled(make_workspace)
    for kind in ("generations", "annotations", "examples"):
        for shard in w.records.files(kind):
            shard.write_bytes(b"not to be opened")
    status = status_of(w)
    assert (status.generations, status.annotations) == (8, 16)


def test_status_counts_what_a_takedown_left(make_workspace: Make) -> None:
    w = filled(make_workspace)
    w.records.remove({"generations": pl.col("clip_id") == "03clip", "annotations": pl.col("clip_id") == "03clip"})
    status = status_of(w)
    assert (status.generations, status.annotations) == (7, 14)


@pytest.mark.slow
def test_status_loads_no_heavy_library(make_workspace: Make) -> None:
    root = filled(make_workspace).root
    heavy = ("torch", "transformers", "mlflow", "scipy", "matplotlib", "apscheduler")
    code = (
        "import sys\nfrom flywheel.status import status_of\nfrom flywheel.store import Workspace\n"
        f"status_of(Workspace.open(sys.argv[1]))\nprint([m for m in {heavy} if m in sys.modules])\n"
        # What show, promote, rollback and corrections need beyond that: scipy's statistics take longer than they do.
        "import human_refine, flywheel.rounds.champion\nprint('scipy.stats' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", "False"]


def test_a_clip_s_history_is_all_that_is_on_record_of_it(make_workspace: Make) -> None:
    w = filled(make_workspace)
    reject(w, "01clip", "a loop")
    history = history_of(w, "01")
    values = json.loads(json.dumps(history.to_json()))
    assert (values["clip"]["id"], values["clip"]["uri"], values["gold"]) == ("01clip", "/elsewhere/1.mp4", "")
    assert [(t["id"], t["purpose"]) for t in values["texts"]] == [("a1learn", "learn"), ("a1measure", "measure")]
    text = values["texts"][0]
    assert text["generation"]["id"] == "g1"
    assert not {"token_ids", "logprobs"} & set(text["generation"])
    assert [c["id"] for c in text["corrections"]] == ["c1"]
    use = {"round": 1, "stage": "finetune", "source": "human", "use": "learned", "weight": 1.0, "corrections": ["c1"]}
    assert text["uses"] == [use]
    assert [r["reason"] for r in values["rejected"]] == ["a loop"]
    lines = str(history).splitlines()
    assert lines[0] == "01clip /elsewhere/1.mp4 0.00 to 2.00 s, train"
    assert "round 1 caption by model m + adapter a: text 1" in lines
    assert "  M1 learned it in finetune, weight 1" in lines
    assert [line for line in lines if line.startswith("  edit by Ann at 2026-01-01")]


@pytest.mark.parametrize(("digits", "message"), [("0", "names 8 clips. Give more"), ("zz", "no clip")])
def test_digits_that_name_none_or_several_are_refused(make_workspace: Make, digits: str, message: str) -> None:
    with pytest.raises(UserError, match=f"show {digits}: {message}"):
        history_of(filled(make_workspace), digits)


def test_a_clip_is_named_by_its_file_too(make_workspace: Make) -> None:
    w = filled(make_workspace)
    for name in ("/elsewhere/1.mp4", "1.mp4", "01clip", "01"):
        assert history_of(w, name).clip["id"] == "01clip"
    first = w.clips_by_id(["01clip"]).to_dicts()[0]
    w.add_clips([clip_of({**first, "id": "1second", "start_s": 2.0, "end_s": 4.0})])
    with pytest.raises(
        UserError, match=r"is the file of 2 clips\. Give the id of one: 01clip \(0\.0-2\.0 s\), 1second"
    ):
        history_of(w, "1.mp4")


def test_a_history_reads_its_clip_s_rows_alone(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = filled(make_workspace)
    frames: list[pl.DataFrame] = []
    scan = Records._scan

    def watched(*arguments: Any) -> pl.DataFrame:
        frames.append(scan(*arguments))
        return frames[-1]

    monkeypatch.setattr(Records, "_scan", watched)
    history_of(w, "03")
    rows = [frame for frame in frames if frame.height]
    assert len(rows) >= 3
    for frame in rows:
        key = "clip_id" if "clip_id" in frame.columns else "id"
        assert set(frame[key]) == {"03clip"}


def test_uses_name_who_learned_from_what(make_workspace: Make) -> None:
    w = filled(make_workspace)
    learned, unused = uses_of(w)
    assert (learned.id, learned.round, learned.stage, learned.weight) == ("c1", 1, "finetune", 1.0)
    assert str(learned) == "c1 edit by Ann of clip 01clip: learned, M1 finetune, weight 1"
    assert (unused.id, unused.round) == ("c2", None)
    assert str(unused) == "c2 accept by Bob of clip 02clip: not used yet"
    assert [use.id for use in uses_of(w, 1)] == ["c1"]
    assert uses_of(w, 2) == []
    fields = ["id", "clip_id", "annotation_id", "verdict", "refiner", "at", "round", "stage", "use", "weight"]
    assert list(learned.to_json()) == fields


def test_a_stage_runs_only_while_a_process_does(make_workspace: Make) -> None:
    w = filled(make_workspace)
    w.set_stage(1, "annotate", "running", {})
    with w.lock(tidy=False):
        assert status_of(w).state == "running"
        assert "round 1: annotate is running\n" in str(status_of(w))
    found = status_of(w)
    assert found.to_json()["state"] == "interrupted"
    assert "round 1: annotate was interrupted; 'flywheel round' goes on\n" in str(found)
    assert home_of(w).under_way == "Round 1 is under way: annotate was interrupted."
    # Whoever asks has the lock for a moment: nobody is turned away for it.
    with open(w.root / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(0.02, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with w.lock(tidy=False):
            pass


def test_an_adapter_that_was_left_out_is_told_of(make_workspace: Make) -> None:
    w = filled(make_workspace)
    proof = {"verdict": "unseen", "adapter_to_base": 0.0, "noise": 2e-6, "wrote": "base"}
    w.set_stage(1, "evaluate", "running", {"proof": proof})
    found = status_of(w)
    assert [(a.round, a.stage, a.wrote) for a in found.unseen_adapters] == [(1, "evaluate", "base")]
    assert "adapter changes nothing that could be seen" in str(found)
    assert json.loads(json.dumps(found.to_json()))["unseen_adapters"][0]["noise"] == 2e-6
    w.set_stage(1, "evaluate", "running", {"proof": {**proof, "verdict": "proven"}})
    assert not status_of(w).unseen_adapters

"""Pairs of texts from what people said: which words make one, which none and why, and a round that learns from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_rounds import context_of, correct

from flywheel.core.types import WRITTEN_BLIND, Annotation, Preference, content_id
from flywheel.rounds import RoundContext, run_round
from flywheel.rounds.publish import flatten, report_of
from flywheel.rounds.stages import finetune
from flywheel.rounds.takedown import take_down
from flywheel.rounds.text_pairs import AGAINST, ALONE, BLIND, EQUAL, GONE, NOT_TRAIN, TIE, find_pairs, pair_examples
from flywheel.status import history_of, uses_of
from flywheel.store import Workspace
from human_refine.sound_pairs import SOUND

Make = Callable[..., Workspace]


def caption(clip_id: str, text: str, round: int) -> Annotation:
    return Annotation(
        id=content_id(clip_id, round),
        round=round,
        kind="caption",
        clip_id=clip_id,
        generation_id="",
        source="model",
        text=text,
        mean_logprob=-1.0,
    )


def two_rounds(context: RoundContext) -> None:
    """Two rounds' captions of all clips."""
    for round in (1, 2):
        texts = [caption(clip.id, f"text {round} of {n}", round) for n, clip in enumerate(context.clips.values())]
        context.workspace.add_annotations(texts, round)


def text(context: RoundContext, clip_id: str, round: int) -> str:
    return context.texts().of(round, [clip_id])[clip_id].text


def choose(
    context: RoundContext,
    clip_id: str,
    chosen: str,
    who: str = "r",
    *,
    other: int = 2,
    first_id: str = "",
    second_id: str = "",
) -> str:
    """A choice between the clip's texts of round 1 and another one, or between these; returns its id."""
    key = content_id("choice", clip_id, who, chosen)
    context.workspace.add_preferences(
        [
            Preference(
                id=key,
                clip_id=clip_id,
                first_id=first_id or content_id(clip_id, 1),
                second_id=second_id or content_id(clip_id, other),
                chosen=chosen,  # type: ignore[arg-type]
                refiner=who,
                at=datetime(2026, 1, 3, tzinfo=UTC),
            )
        ]
    )
    return key


@pytest.fixture
def context(make_workspace: Make, corpus: Path) -> RoundContext:
    context = context_of(make_workspace, corpus, "corpus.anchor_share=0.3")
    two_rounds(context)
    return context


@pytest.mark.slow
def test_each_word_of_people_makes_a_pair_or_says_why_not(context: RoundContext) -> None:
    w = context.workspace
    edited, accepted, blind, chosen, tied, refused, alone, mended = [clip.id for clip in context.split("train")][:8]
    anchor = next(iter(context.split("anchor"))).id
    correct(context, edited, "what is seen")
    correct(context, accepted, "", verdict="accept")
    correct(context, blind, "written by itself")
    by_itself = next(c for c in w.correction_records() if c.clip_id == blind)
    w.add_corrections([replace(by_itself, id="blind", refiner="s", reason=WRITTEN_BLIND)])
    correct(context, refused, "", round=2, verdict="reject")
    for round in (1, 2):
        correct(context, alone, "", round=round, verdict="reject")
    correct(context, mended, "put right", round=1)
    correct(context, mended, "", round=2, verdict="reject")
    correct(context, anchor, "an anchor's text")
    ids = [choose(context, chosen, said, who) for said, who in (("second", "a"), ("second", "b"), ("first", "c"))]
    choose(context, tied, "equal")
    choose(context, anchor, "first")
    found = find_pairs(context, context.texts())
    pairs = {(p.source, p.clip_id): p for p in found.pairs}
    wanted = {
        ("correction", edited): ("what is seen", text(context, edited, 1)),
        ("correction", mended): ("put right", text(context, mended, 1)),
        ("preference", chosen): (text(context, chosen, 2), text(context, chosen, 1)),
        ("reject", refused): (text(context, refused, 1), text(context, refused, 2)),
        ("reject", mended): ("put right", text(context, mended, 2)),
    }
    assert {key: (p.chosen, p.rejected) for key, p in pairs.items()} == wanted
    preferred = pairs["preference", chosen]
    assert (sorted(preferred.by), preferred.weight) == (sorted(ids), pytest.approx(2 / 3))
    assert dict(found.left_out) == {BLIND: 1, TIE: 1, NOT_TRAIN: 1, ALONE: 2}
    assert found.by_source() == {"correction": 2, "preference": 1, "reject": 2}
    rows = pair_examples(context, found.pairs, 2)
    assert [row.text for row in rows] == [t for p in found.pairs for t in (p.chosen, p.rejected)]
    assert find_pairs(context, context.texts(), ["reject"]).by_source() == {"reject": 2}


@pytest.mark.slow
def test_pairs_that_are_none(context: RoundContext) -> None:
    """Texts alike but for white space, a text that is gone, a choice against a correction, a clip taken down."""
    w = context.workspace
    alike, gone, against, taken = [clip.id for clip in context.split("train")][:4]
    w.add_annotations([replace(caption(alike, f" {text(context, alike, 1)} ", 3))], 3)
    choose(context, alike, "first", other=3)
    choose(context, gone, "first", other=7)
    correct(context, against, text(context, against, 2))
    choose(context, against, "first")
    choose(context, taken, "first")
    # One between sounds is of no texts, and none of them is gone.
    choose(context, alike, "second", who="s", first_id=f"{SOUND}a", second_id=f"{SOUND}b")
    assert find_pairs(context, context.texts()).by_source() == {"correction": 1, "preference": 1}
    with w.lock():
        take_down(w, [taken], "asked for", rewrite=lambda: None)
    context = RoundContext(w)
    found = find_pairs(context, context.texts())
    assert found.by_source() == {"correction": 1}
    assert dict(found.left_out) == {EQUAL: 1, GONE: 1, AGAINST: 1}


@pytest.mark.slow
def test_a_round_learns_from_what_people_said_no_to_and_it_is_on_record(make_workspace: Make, corpus: Path) -> None:
    """A real, two-step training of both, killed after it ended; then what each word taught, both ways."""
    more = ("finetune.method=sft+dpo", "finetune.num_steps=2", "finetune.min_corrections=1", "finetune.batch_size=2")
    context = context_of(make_workspace, corpus, *more)
    w = context.workspace
    run_round(context, until="annotate")
    edited, chosen, refused = [clip.id for clip in context.split("train")][:3]
    w.add_annotations([caption(c, "an older text", 7) for c in (chosen, refused)], 7)
    correct(context, edited, "a person's text")
    correct(context, refused, "", verdict="reject")
    newest = context.texts().of(1, [chosen])[chosen].id
    choice = choose(context, chosen, "second", first_id=content_id(chosen, 7), second_id=newest)
    run_round(context)
    record = w.stage(1, "finetune")[1]
    assert record["method"] == "sft+dpo"
    assert record["pairs"] == {"correction": 1, "preference": 1, "reject": 1}
    assert (record["examples"], record["steps"]) == (1, 2)
    assert set(record["pair_figures"]) == {"chosen_reward", "rejected_reward", "margin", "pair_accuracy"}
    note = json.loads((w.model_folder(1) / "adapter" / "training.json").read_text())
    assert note["pair_figures"] == record["pair_figures"]
    figures = flatten(report_of(context, 1))
    assert figures["pairs/margin"] == record["pair_figures"]["margin"]
    assert (figures["pairs/of_rejects"], figures["pairs/accuracy"]) == (1, record["pair_figures"]["pair_accuracy"])
    rows = {(r["source"], r["use"]): r for r in w.examples(round=1).iter_rows(named=True) if r["stage"] == "finetune"}
    assert rows["pair:preference", "preferred"]["annotation_id"] == newest
    assert rows["pair:preference", "rejected"]["corrections"] == [choice]
    assert rows["pair:correction", "preferred"]["text_hash"] == content_id("a person's text")
    uses = {(u.id, u.use) for u in uses_of(w, 1)}
    assert {(choice, "preferred"), (choice, "rejected")} <= uses
    assert "M1 preferred it in finetune" in str(history_of(w, chosen))
    before = w.model_folder(1) / "adapter" / "adapter_model.safetensors"
    weights = before.read_bytes()
    shutil.rmtree(w.model_folder(1) / "adapter")
    w.set_stage(1, "finetune", "running", {})
    finetune.run(context, 1)
    assert before.read_bytes() == weights, "killed and run again it is the same adapter"


@pytest.mark.slow
def test_without_pairs_a_fine_tune_says_so(context: RoundContext, capsys: pytest.CaptureFixture[str]) -> None:
    w = context.workspace
    plan = {"num_steps": 1, "min_corrections": 1, "batch_size": 1}

    def tuned(method: str) -> dict[str, Any]:
        section = w.config.finetune.model_copy(update={**plan, "method": method})
        there = Workspace(w.root, w.config.model_copy(update={"finetune": section}), w.database)
        return finetune.run(RoundContext(there), 2).to_record()

    clip_id = next(iter(context.split("train"))).id
    correct(context, clip_id, "", verdict="accept")
    assert tuned("dpo") == {"skipped": "0 pairs of texts, 1 needed", "examples": 0}
    both = tuned("sft+dpo")
    assert (both["method"], both["instead_of"], both["examples"]) == ("sft", "sft+dpo", 1)
    assert "finetune: sft instead of sft+dpo: 0 pairs of texts, 1 needed" in capsys.readouterr().err

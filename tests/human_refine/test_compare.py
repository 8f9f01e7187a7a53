"""Blind choices over the API: who sees which pair, on which side, what is kept, and that nobody is told whose it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from flywheel.core.types import pair_id
from flywheel.rounds import RoundContext
from flywheel.rounds.choices import first_choices
from flywheel.rounds.text_pairs import find_pairs, pair_examples
from flywheel.store import Workspace
from flywheel.store.gold import add_gold
from flywheel.store.leases import PAIR, take_lease
from flywheel.store.sources import note_removed
from human_refine.comparing import Comparing
from human_refine.pairs import (
    Pair,
    choices_between,
    compared_rounds,
    gold_choices,
    mixed,
    pairs_between,
    pairs_to_learn,
)
from human_refine.people import exclude
from human_refine.server import create_app
from human_refine.service import ReviewService
from tests.human_refine.page_bed import Make, Refiner
from tests.human_refine.pair_bed import measured, write_pairs


@pytest.fixture
def clips(workspace: Workspace) -> list[str]:
    return write_pairs(workspace, more=10)


def _next(person: Refiner, without: str = ""):  # type: ignore[no-untyped-def]
    answer = person.http.post("/api/compare/next", json={"pair_id": without})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _choose(person: Refiner, pair: dict, chosen: str, save_id: str = ""):  # type: ignore[no-untyped-def, type-arg]
    person.saves += 1
    body = {"pair_id": pair["pair_id"], "chosen": chosen, "seconds": 4.5}
    body["save_id"] = save_id or f"save-{person.name}-{person.saves:04d}"
    return person.http.post("/api/compare/choices", json=body)


@pytest.mark.slow
def test_a_person_goes_through_all_pairs_and_is_told_at_the_end_whose_they_were(
    clips: list[str], ann: Refiner, workspace: Workspace
) -> None:
    assert compared_rounds(workspace) == (0, 1)
    seen = []
    while (said := _next(ann))["pair"] is not None:
        pair = said["pair"]
        assert _next(ann)["pair"] == pair, "what is leased comes first, on the same sides"
        assert said["result"] is None
        shown = json.dumps(pair)
        assert "round" not in shown
        assert "m0-" not in shown, "nothing tells which is which"
        assert {pair["left"].split(" of ")[0], pair["right"].split(" of ")[0]} == {"the older text", "the newer text"}
        newer = "left" if "newer" in pair["left"] else "right"
        seen.append((pair["clip_id"], newer))
        assert _choose(ann, pair, "equal" if len(seen) == 2 else newer).status_code == 200
    assert sorted(clip for clip, _ in seen) == clips[:-1], "each once; the pair of equal texts never"
    assert {side for _, side in seen} == {"left", "right"}, "sides are drawn"
    assert said["result"] == {"rounds": [0, 1], "chosen": [0, len(seen) - 1], "equal": 1, "both_bad": 0}
    choices = choices_between(workspace, 0, 1)
    assert [c.outcome for c in choices] == [1.0, 0.5, *[1.0] * (len(seen) - 2)]
    assert {c.seconds for c in choices} == {4.5}
    for preference, (_, newer) in zip(workspace.preference_records(), seen, strict=True):
        assert (preference.left == "second") == (newer == "left"), "which side it was on is on record"
    assert choices_between(workspace, 1, 0)[0].outcome == 0.0, "as the other one's"


def test_two_people_never_have_the_same_pair_and_a_pair_that_was_chosen_of_is_done(
    clips: list[str], ann: Refiner, bob: Refiner
) -> None:
    first, other = _next(ann)["pair"], _next(bob)["pair"]
    assert first["pair_id"] != other["pair_id"]
    assert _choose(bob, first, "left").status_code == 409
    assert (
        _choose(ann, first, "left", "same-save").json()["id"] == _choose(ann, first, "left", "same-save").json()["id"]
    )
    assert "others have chosen" in _choose(bob, first, "left").json()["detail"]
    assert _choose(bob, other, "skip").status_code == 200
    assert _next(bob)["pair"]["pair_id"] not in (first["pair_id"], other["pair_id"])
    assert bob.http.post("/api/compare/lease", json={"pair_id": first["pair_id"]}).json() == {"yours": False}
    assert ann.next() is not None, "a pair's lease is none of a text"


def test_another_choice_after_an_answer_was_lost_replaces_the_first(
    clips: list[str], ann: Refiner, workspace: Workspace
) -> None:
    pair = _next(ann)["pair"]
    ids = [_choose(ann, pair, side, "same-save").json()["id"] for side in ("left", "right", "right")]
    assert ids[0] != ids[1] == ids[2]
    assert ann.http.get("/api/compare/history").json()["history"][0]["chosen"] == "right"
    assert len(choices_between(workspace, 0, 1)) == 1


def test_pairs_that_lie_before_others_are_none_that_is_left(
    clips: list[str], make_workspace: Callable[..., Workspace]
) -> None:
    w = make_workspace("review.compare=1", "review.gold_share=0")
    comparing = Comparing(ReviewService(w))
    for pair in pairs_between(w, 0, 1):
        assert take_lease(w, PAIR + pair.pair_id, "ann", 60)
    assert (comparing.is_left("ann"), comparing.is_left("bob")) == (True, False)
    assert comparing.next("bob") is None, "so bob is not sent there"


def test_undo_takes_back_and_lays_the_pair_before_the_person_again(
    clips: list[str], ann: Refiner, workspace: Workspace
) -> None:
    assert ann.http.post("/api/compare/undo", json={}).json()["pair"] is None
    pair = _next(ann)["pair"]
    _choose(ann, pair, "both_bad")
    assert ann.http.get("/api/compare/history").json()["history"][0]["chosen"] == "both_bad"
    back = ann.http.post("/api/compare/undo", json={}).json()
    assert (back["pair"], back["counts"]["mine"]) == (pair, 0)
    assert choices_between(workspace, 0, 1) == []
    _choose(ann, pair, "left")
    history = ann.http.get("/api/compare/history").json()["history"]
    assert [row["chosen"] for row in history] == ["left"]
    assert [p.chosen for p in workspace.preference_records()][:2] == ["both_bad", "withdraw"], "nothing is overwritten"


def test_a_side_whose_clip_was_taken_down_is_gone(clips: list[str], ann: Refiner, workspace: Workspace) -> None:
    pair = _next(ann)["pair"]
    workspace.takedowns.note([pair["clip_id"]], "asked for", {})
    assert _choose(ann, pair, "left").status_code == 410
    assert _next(ann)["pair"]["pair_id"] != pair["pair_id"]
    assert workspace.preferences().is_empty()


@pytest.mark.slow
def test_hidden_pairs_check_the_person(
    clips: list[str], workspace: Workspace, make_workspace: Callable[..., Workspace]
) -> None:
    w = make_workspace("review.gold_share=0.9", "review.overlap_share=0")
    gold = sorted(w.clips("train")["id"])[:3]
    texts = ["a red ball rolls", "two dogs bark loudly", "someone plays guitar"]
    add_gold(w, dict(zip(gold, texts, strict=True)), "lead")
    person = Refiner(create_app(w), w, "ann")
    hidden = []
    while (pair := _next(person)["pair"]) is not None:
        is_gold = pair["clip_id"] in gold
        assert set(pair) == {
            "pair_id",
            "clip_id",
            "media",
            "name",
            "start_s",
            "end_s",
            "fps",
            "has_audio",
            "left",
            "right",
            "lease_s",
        }
        right = "left" if pair["left"] == dict(zip(gold, texts, strict=True)).get(pair["clip_id"]) else "right"
        if is_gold:
            hidden.append(pair)
            right = right if len(hidden) < 3 else "equal"
        _choose(person, pair, right)
    assert len(hidden) == 3
    score = gold_choices(w)["ann"]
    assert (score.seen, score.right) == (3, 2)
    assert len(choices_between(w, 0, 1)) == len(clips) - 1, "they are no choices between rounds"


@pytest.mark.slow
def test_pairs_take_turns_with_texts_as_often_as_is_asked(
    clips: list[str], workspace: Workspace, make_workspace: Callable[..., Workspace]
) -> None:
    w = make_workspace("review.compare=0.5", "review.overlap_share=0", "review.gold_share=0")
    person = Refiner(create_app(w), w, "ann")
    turns = []
    while len(turns) < 12:
        answer = person.http.post("/api/next", json={}).json()
        turns.append("pair" if answer["compare"] else "text")
        if answer["compare"]:
            assert answer["item"] is None
            pair = _next(person)["pair"]
            if pair is None:
                break
            if _choose(person, pair, "skip").json()["texts"]:
                assert not person.http.post("/api/next", json={}).json()["compare"]
        else:
            person.say(person.next(), "accept")
    assert {"pair", "text"} == set(turns)
    assert person.http.get("/compare").status_code == 200


@pytest.mark.slow
def test_many_at_once_lose_nothing(clips: list[str], app: object, workspace: Workspace) -> None:
    people = [Refiner(app, workspace, f"p{n}") for n in range(6)]

    def work(person: Refiner) -> int:
        count = 0
        while (pair := _next(person)["pair"]) is not None:
            count += _choose(person, pair, "left").status_code == 200
        return count

    with ThreadPoolExecutor(len(people)) as pool:
        assert sum(pool.map(work, people)) == len(clips) - 1
    assert workspace.preferences()["clip_id"].n_unique() == workspace.preferences().height == len(clips) - 1


def test_of_each_video_one_clip_comes_first_and_excluded_people_do_not_count(
    clips: list[str], workspace: Workspace, ann: Refiner
) -> None:
    pairs = pairs_between(workspace, 0, 1)
    assert [p.pair_id for p in pairs] == [pair_id(f"m0-{p.clip_id}", f"m1-{p.clip_id}") for p in pairs]
    hashes = dict(workspace.clips("anchor").select("id", "content_hash").iter_rows())
    videos = [hashes[p.clip_id] for p in pairs]
    assert len(set(videos[: len(set(videos))])) == len(set(videos))
    pair = _next(ann)["pair"]
    _choose(ann, pair, "left")
    assert [c.clip_id for c in first_choices(RoundContext(workspace), 0, 1)] == [pair["clip_id"]]
    note_removed(workspace, [hashes[pair["clip_id"]]], "/videos", "not ours", from_round=1)
    assert first_choices(RoundContext(workspace), 0, 1) == [], "nor does a source that was removed"
    exclude(workspace, "ann", "not looking")
    assert choices_between(workspace, 0, 1) == []


def _write_train(workspace: Workspace) -> dict[str, str]:
    """Captions of a second and a third round of train clips, the third's other than before; returns clip -> newest."""
    clips = sorted(workspace.clips("train")["id"])
    for round in (2, 3):
        words = {c: f"round 2 of {c}" if round == 2 or n == 0 else f"round 3 of {c}" for n, c in enumerate(clips)}
        texts = [replace(measured(c, round, text), purpose="learn", id=f"t{round}-{c}") for c, text in words.items()]
        workspace.add_annotations(texts, round)
    for round in (1, 2, 3):
        workspace.set_stage(round, "annotate", "done", {})
    return words


@pytest.mark.slow
def test_choices_on_train_clips_are_learned_from_and_never_tested_by(
    clips: list[str], workspace: Workspace, make_workspace: Make
) -> None:
    """From the page to the rows of a training: each other pair is a train clip's, of its newest texts that differ."""
    newest = _write_train(workspace)
    gold = sorted(newest)[1]
    add_gold(workspace, {gold: "the right text"}, "a lead")
    w = make_workspace("review.overlap_share=0", "review.compare=1", "review.compare_train=0.5", "review.gold_share=0")
    train = pairs_to_learn(w)
    assert {pair.clip_id for pair in train} == set(newest) - {gold}
    unchanged = next(pair for pair in train if pair.clip_id == sorted(newest)[0])
    assert unchanged.second_id == f"t3-{unchanged.clip_id}", "the newest that says it"
    assert not unchanged.first_id.startswith("t"), "and the newest that says something else"
    person, learned = Refiner(create_app(w), w, "ann"), 0
    for number in range(8):
        pair = _next(person)["pair"]
        assert (pair["clip_id"] in newest) == bool(number % 2)
        assert "t3-" not in json.dumps(pair)
        better = newest.get(pair["clip_id"], "the newer text")
        side = "left" if better in pair["left"] else "right"
        assert _choose(person, pair, side).status_code == 200
        learned += pair["clip_id"] in newest
    context = RoundContext(w)
    assert len(first_choices(context, 0, 1)) == 8 - learned == 4, "the gate counts anchors' alone"
    assert not choices_between(w, 2, 3)
    found = find_pairs(context, context.texts())
    assert found.by_source() == {"preference": 4}
    assert dict(found.left_out) == {"not of a train clip": 4}
    rows = pair_examples(context, found.pairs, 4)
    assert {row.text for row in rows[::2]} <= set(newest.values())
    assert all(row.text != newest[row.clip_id] for row in rows[1::2])


def test_pairs_of_both_kinds_come_by_their_share() -> None:
    anchors, train = ([Pair(clip_id=f"{name}{n}", first_id="a", second_id="b") for n in range(4)] for name in "at")

    def order(share: float, more: int = 4) -> str:
        return "".join(pair.clip_id[0] for pair in mixed(anchors, train[:more], share))

    assert order(0.5) == "atatatat"
    assert order(0.25) == "aaatattt"
    assert order(1.0) == "ttttaaaa"
    assert order(0.0) == "aaaatttt"
    assert order(0.5, more=1) == "ataaa"

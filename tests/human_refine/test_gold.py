"""Gold: shown among the others without a mark, apart from all that rounds learn from, and telling of each refiner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.demo import Oracle
from flywheel.rounds import RoundContext
from flywheel.rounds.mix import training_examples
from flywheel.rounds.stages.review import num_corrections
from flywheel.rounds.texts import CurrentTexts, SourceChoice
from flywheel.store import Workspace
from human_refine import import_gold
from human_refine.effort import effort
from human_refine.gold import add_gold, gold_texts
from human_refine.server import create_app
from tests.human_refine.page_bed import Refiner

Make = Callable[..., Workspace]
pytestmark = pytest.mark.usefixtures("annotated")


@pytest.fixture
def half_gold(workspace: Workspace, corpus: Path, make_workspace: Make) -> Workspace:
    """Five gold clips, and half of what is shown drawn from them."""
    oracle = Oracle(corpus / "oracle.parquet")
    clips = list(workspace.clips("train").sort("id").select("id", "uri").iter_rows())[:5]
    assert add_gold(workspace, {clip_id: oracle.text(uri) for clip_id, uri in clips}, "lead") == 5
    return make_workspace("review.gold_share=0.5", "review.overlap_share=1")


def _all_of(person: Refiner, say: Callable[[dict], tuple[str, str]]) -> list[dict]:  # type: ignore[type-arg]
    seen = []
    while (item := person.next()) is not None:
        verdict, text = say(item)
        answer = person.say(item, verdict, text)
        assert answer.status_code == 200, answer.text
        seen.append(item)
    return seen


@pytest.mark.slow
def test_gold_names_who_does_not_look(half_gold: Workspace, corpus: Path) -> None:
    """One refiner writes what is true, one accepts whatever is shown: gold tells them apart, and nothing of it is
    learned."""
    page, oracle, gold = create_app(half_gold), Oracle(corpus / "oracle.parquet"), gold_texts(half_gold)
    uris = dict(half_gold.clips().select("id", "uri").iter_rows())
    careful, lazy = Refiner(page, half_gold, "careful"), Refiner(page, half_gold, "lazy")
    before = lazy.http.get("/api/progress").json()
    seen = _all_of(careful, lambda item: ("edit", oracle.text(uris[item["clip_id"]])))
    also = _all_of(lazy, lambda item: ("accept", ""))
    on_gold = {i["annotation_id"] for i in [*seen, *also] if i["clip_id"] in gold}
    assert on_gold, "gold was shown"
    keys = {frozenset(i) for i in seen}
    assert len(keys) == 1, "nothing that the page gets says which is gold"
    assert before["of"] == half_gold.annotations(round=1, kind="caption").height, "the counts don't tell of gold"
    after = lazy.http.get("/api/progress").json()
    assert after["done"] == after["of"] == before["of"]
    for items in (seen, also):
        ids = [i["annotation_id"] for i in items]
        assert len(ids) == len(set(ids)), "nobody judges the same twice"
    scores = {row.refiner: row.gold for row in effort(half_gold, 1).refiners}
    assert scores["careful"].right == scores["careful"].seen == sum(i["clip_id"] in gold for i in seen)
    assert (scores["careful"].accuracy, scores["careful"].f1) == (1, 1)
    assert scores["lazy"].seen == sum(i["clip_id"] in gold for i in also) > 0
    assert scores["lazy"].right == 0, "the fake engine's texts are wrong"
    assert scores["lazy"].high < 1
    assert scores["lazy"].f1 == scores["lazy"].f1_before < 0.7
    texts = CurrentTexts(half_gold)
    assert not set(texts.human) & set(gold)
    assert not {
        e.clip_id
        for e in training_examples(
            RoundContext(half_gold), texts, SourceChoice(round=1, anchor_f1={}, num_anchors=0), 1
        )
    } & set(gold)
    others = half_gold.annotations(round=1, kind="caption").height - len(gold)
    assert num_corrections(RoundContext(half_gold), 1) == 2 * others
    assert effort(half_gold, 1).overlap == others, "what many said of gold is no measure of agreement"


@pytest.mark.slow
def test_two_people_judge_the_same_gold_alone(half_gold: Workspace) -> None:
    page, gold = create_app(half_gold), gold_texts(half_gold)
    people = [Refiner(page, half_gold, f"p{n}") for n in range(6)]
    first: dict[str, dict] = {}  # type: ignore[type-arg]
    for person in people:
        while (item := person.next()) is not None and item["clip_id"] not in gold:
            person.say(item, "skip")
        if item is not None:
            first[person.name] = item
            assert person.next()["annotation_id"] == item["annotation_id"], "a reloaded page shows the same text"
    by_text: dict[str, list[Refiner]] = {}
    for person in people:
        if person.name in first:
            by_text.setdefault(first[person.name]["annotation_id"], []).append(person)
    one, two = next(who for who in by_text.values() if len(who) > 1)[:2]
    assert one.say(first[one.name], "edit", "Mine.").status_code == 200
    assert two.say(first[two.name], "edit", "Other.").status_code == 200, "the other's word is no conflict"
    other = two.http.get(f"/api/history/{first[two.name]['annotation_id']}").json()["history"]
    assert [(row["refiner"], row["text"]) for row in other] == [(two.name, "Other.")], "nor is it shown"
    again = two.http.post("/api/undo").json()["item"]
    assert again["annotation_id"] == first[two.name]["annotation_id"]


@pytest.mark.slow
def test_a_lead_makes_gold_while_looking(app: object, workspace: Workspace, ann: Refiner) -> None:
    boss = Refiner(app, workspace, "boss", role="lead")
    item = ann.next()
    assert ann.say(item, "accept", gold=True).status_code == 403
    assert ann.say(item, "skip").status_code == 200
    train = set(workspace.clips("train")["id"])
    refused = made = 0
    while (item := boss.next()) is not None and not (refused and made):
        answer = boss.say(item, "edit", f"True of {item['clip_id']}.", gold=True)
        if item["clip_id"] in train:
            assert answer.status_code == 200
            assert gold_texts(workspace)[item["clip_id"]] == f"True of {item['clip_id']}."
            made += 1
        else:
            assert answer.status_code == 422
            assert "train" in answer.json()["detail"]
            assert boss.say(item, "accept").status_code == 200
            refused += 1
    assert refused
    assert made
    assert boss.say(boss.next() or item, "reject", reason="no", gold=True).status_code == 422
    assert "Gold accuracy" in boss.http.get("/lead").text
    assert all(row.gold is None for row in effort(workspace).refiners), "nobody is scored on the gold that one gave"


@pytest.mark.slow
def test_gold_from_a_file(workspace: Workspace, tmp_path: Path) -> None:
    rows = workspace.annotations(round=1, kind="caption").join(
        workspace.clips().rename({"id": "clip_id"}), on="clip_id"
    )
    train, anchor = (rows.filter(split=split).sort("id").row(0, named=True) for split in ("train", "anchor"))
    file = tmp_path / "gold.jsonl"

    def write(*lines: dict[str, str]) -> None:
        file.write_text("\n".join(json.dumps(line) for line in lines))

    write(
        {"annotation_id": train["id"], "verdict": "edit", "text": "What is there."},
        {"annotation_id": anchor["id"], "verdict": "accept"},
        {"annotation_id": train["id"], "verdict": "skip"},
    )
    report = import_gold(workspace, file, "boss")
    assert (report.added, report.known, len(report.refused)) == (1, 0, 2)
    assert "only train clips" in report.refused[0]
    write({"annotation_id": train["id"], "verdict": "edit", "text": "What is there."})
    assert import_gold(workspace, file, "boss").known == 1
    assert gold_texts(workspace) == {train["clip_id"]: "What is there."}
    write({"annotation_id": train["id"], "verdict": "reject", "reason": "no longer"})
    assert import_gold(workspace, file, "boss").added == 1
    assert gold_texts(workspace) == {}


@pytest.mark.slow
def test_whether_a_text_is_gold_cant_be_told(half_gold: Workspace) -> None:
    """What the page answers before and after saving is the same for gold and for all else, but for the texts."""
    person, gold = Refiner(create_app(half_gold), half_gold, "curious"), gold_texts(half_gold)
    answers: dict[bool, list[object]] = {True: [], False: []}
    while (item := person.next()) is not None:
        name = item["annotation_id"]
        before = person.http.get("/api/progress").json()
        said = [person.http.get(f"/api/history/{name}"), person.http.post("/api/lease", json={"annotation_id": name})]
        said += [person.say(item, "edit", "What is seen."), person.http.get(f"/api/history/{name}")]
        said += [person.http.post("/api/undo"), person.say({**item, "base": ""}, "accept")]
        after = person.http.get("/api/progress").json()
        statuses = [answer.status_code for answer in said]
        rows = [row["refiner"] for row in said[3].json()["history"]]
        answers[item["clip_id"] in gold].append((statuses, rows, {key: after[key] - before[key] for key in before}))
    assert answers[True]
    assert all(answer == answers[False][0] for answer in answers[True] + answers[False])

"""The lead's pages: clips with search and facets, everybody's texts, invitations, what is kept for training."""

from __future__ import annotations

import polars as pl
import pytest

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation
from flywheel.store import Workspace
from flywheel.store.flags import put_flag
from human_refine import browsing
from human_refine.gold import add_gold
from human_refine.people import invite, leads
from human_refine.server import create_app
from tests.human_refine.page_bed import Refiner


@pytest.fixture
def lou(app: object, workspace: Workspace) -> Refiner:
    return Refiner(app, workspace, "lou", "lead")


def _clips(lead: Refiner, **query: str) -> list[dict]:  # type: ignore[type-arg]
    """All clips that the page would list, however many answers that takes."""
    found: list[dict] = []  # type: ignore[type-arg]
    cursor = ""
    for _ in range(100):
        answer = lead.http.get("/api/clips", params={**query, "cursor": cursor})
        assert answer.status_code == 200, answer.text
        found += answer.json()["clips"]
        if not (cursor := answer.json()["cursor"]):
            return found
    raise AssertionError("no end")


def test_clips_are_found_by_words_names_ids_and_facets(lou: Refiner, ann: Refiner, workspace: Workspace) -> None:
    clips = {row["id"]: row for row in workspace.clips().iter_rows(named=True)}
    listed = _clips(lou)
    assert [clip["clip_id"] for clip in listed] == list(clips)
    captions = {r["clip_id"]: r["text"] for r in workspace.annotations(round=1, kind="caption").iter_rows(named=True)}
    assert {c["clip_id"]: c["caption"]["text"] for c in listed if c["caption"]} == captions
    one = listed[3]
    last_word = captions.get(one["clip_id"], next(iter(captions.values()))).split()[-1].rstrip(".")
    wanted = {clip_id for clip_id, text in captions.items() if last_word in text}
    assert {c["clip_id"] for c in _clips(lou, words=f"CLIP {last_word}")} == wanted, "all words, in any case"
    assert {c["clip_id"] for c in _clips(lou, words=one["name"])} == {one["clip_id"]}
    assert [c["clip_id"] for c in _clips(lou, words=one["clip_id"][:12])] == [one["clip_id"]]
    assert {c["split"] for c in _clips(lou, split="anchor")} == {"anchor"}
    assert _clips(lou, words="nobody says this") == []
    item = ann.next()
    ann.say(item, "edit", "A red ball rolls.")
    rejected = ann.next()
    ann.say(rejected, "reject", reason="wrong facts")
    [edited] = _clips(lou, people="edit")
    assert (edited["clip_id"], edited["word"]["text"]) == (item["clip_id"], "A red ball rolls.")
    assert [c["word"]["reason"] for c in _clips(lou, people="reject")] == ["wrong facts"]
    ann.http.post("/api/undo")
    assert _clips(lou, people="reject") == [], "what was taken back does not stand"
    put_flag(workspace, item["annotation_id"], item["clip_id"], "ann", flagged=True)
    assert [c["clip_id"] for c in _clips(lou, people="flagged", words="red ball")] == [item["clip_id"]]


def test_gold_is_listed_a_page_at_a_time(lou: Refiner, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [clip["clip_id"] for clip in _clips(lou, split="train")][:5]
    for clip_id in clips:
        add_gold(workspace, {clip_id: "A red ball."}, "lou")
    monkeypatch.setattr(browsing, "PAGE", 2)
    assert sorted(clip["clip_id"] for clip in _clips(lou, people="gold")) == sorted(clips)
    assert lou.http.get("/api/clips", params={"people": "gold", "cursor": "x"}).status_code == 422


def test_a_new_link_for_a_lead_leaves_a_lead(workspace: Workspace) -> None:
    invite(workspace, "Mia", "lead")
    invite(workspace, "Mia")
    assert leads(workspace) == {"Mia"}, "whose words still decide"
    invite(workspace, "Mia", "refiner")
    invite(workspace, "Ann")
    assert leads(workspace) == frozenset()


@pytest.mark.slow
def test_a_page_at_a_time_whatever_the_time_is_over(
    lou: Refiner, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of seven, one shard an answer: the same clips in the same order, none twice."""
    whole = [clip["clip_id"] for clip in _clips(lou, words="clip")]
    monkeypatch.setattr(browsing, "PAGE", 7)
    monkeypatch.setattr(browsing, "_BUDGET_S", 0.0)
    monkeypatch.setattr(browsing, "_GROUP_ROWS", 1)
    parts = [clip["clip_id"] for clip in _clips(lou, words="clip")]
    assert list(dict.fromkeys(parts)) == list(dict.fromkeys(whole))
    answer = lou.http.get("/api/clips", params={"cursor": "annotations:x:1"})
    assert answer.status_code == 422
    assert "search again" in answer.json()["detail"]


def test_one_clip_with_all_its_texts_and_a_word_on_training(lou: Refiner, ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    row = Annotation(
        id="m",
        round=2,
        kind="caption",
        clip_id=item["clip_id"],
        generation_id="",
        source="model",
        text="A ball.",
        mean_logprob=-1.0,
        purpose="measure",
    )
    with workspace.lock():
        workspace.add_annotations([row], 2)
    ann.say(item, "reject", reason="too vague")
    address = f"/api/clips/{item['clip_id']}"
    clip = lou.http.get(address).json()
    assert [(t["round"], t["purpose"]) for t in clip["texts"]][-2:] == [(1, "learn"), (2, "measure")]
    assert [(w["refiner"], w["reason"]) for w in clip["words"]] == [("ann", "too vague")]
    assert (clip["decision"], clip["verdicts"]) == (None, [])
    assert lou.http.post(f"{address}/verdict", json={"kept": False, "reason": " "}).status_code == 422
    assert lou.http.post(f"{address}/verdict", json={"kept": False, "reason": "a test card"}).json() == {"kept": False}
    [said] = workspace.clip_verdicts().to_dicts()
    assert (said["clip_id"], said["kept"], said["reason"]) == (item["clip_id"], False, "a test card (lou)")
    assert [c["clip_id"] for c in _clips(lou, people="lead")] == [item["clip_id"]]
    other = Workspace.open(workspace.root)
    with other.lock():
        busy = lou.http.post(f"{address}/verdict", json={"kept": True, "reason": "no, it is fine"})
    other.database.close()
    assert busy.status_code == 409
    assert "when it is done" in busy.json()["detail"]
    assert lou.http.get("/api/clips/nothing").status_code == 404
    assert lou.http.get(f"{address}/neighbours").json() == {"before": None, "after": None}, "a video of one clip"


class _ByLength:
    """Finds the clips whose captions are the longest, by their words."""

    def __init__(self, workspace: Workspace, *, ready: bool = True) -> None:
        self._workspace, self._ready = workspace, ready
        self.asked: list[tuple[str, str, int | None]] = []

    def ready(self) -> bool:
        return self._ready

    def find(self, text: str, split: str, round: int | None, limit: int) -> dict[str, dict[str, float]]:
        self.asked.append((text, split, round))
        if text == "nothing":
            raise UserError("search: says no word")
        rows = self._workspace.annotations(round=1, kind="caption").sort(pl.col("text").str.len_chars(), "id")
        return {clip_id: {"video": 1.5, "text": -0.25} for clip_id in rows["clip_id"].reverse()[:limit]}


@pytest.mark.slow
def test_what_is_seen_and_heard_is_asked_where_there_is_an_index(workspace: Workspace) -> None:
    content = _ByLength(workspace)
    lead = Refiner(create_app(workspace, content=content), workspace, "lou", "lead")
    assert 'id="by"' in lead.http.get("/clips").text
    found = lead.http.get("/api/search", params={"text": "a dog barks", "split": "train", "round": 1}).json()["clips"]
    assert content.asked == [("a dog barks", "train", 1)]
    lengths = [len(clip["caption"]["text"]) for clip in found]
    assert lengths == sorted(lengths, reverse=True), "in the order that they were found in"
    assert found[0]["found_by"] == {"video": 1.5, "text": -0.25}
    refused = lead.http.get("/api/search", params={"text": "nothing"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "search: says no word")


@pytest.mark.slow
def test_without_an_index_words_alone_are_searched(workspace: Workspace) -> None:
    lead = Refiner(create_app(workspace, content=_ByLength(workspace, ready=False)), workspace, "lou", "lead")
    assert 'id="by"' not in lead.http.get("/clips").text
    answer = lead.http.get("/api/search", params={"text": "a dog"})
    assert answer.status_code == 404
    assert "flywheel index" in answer.json()["detail"]


@pytest.mark.slow
def test_people_are_invited_looked_at_and_excluded(lou: Refiner, ann: Refiner, workspace: Workspace) -> None:
    ann.say(ann.next(), "edit", "A red ball rolls.")
    link = lou.http.post("/api/people", json={"name": "cleo"}).json()["link"]
    assert "/invite/" in link
    assert ann.http.get(link.removeprefix("http://testserver")).status_code == 200
    assert "lead" in lou.http.post("/api/people", json={"name": "lou"}).json()["detail"], "no link takes a lead's place"
    assert lou.http.post("/api/people", json={"name": "<b>"}).status_code == 422
    page = lou.http.get("/lead")
    assert 'href="/lead/person/ann"' in page.text
    assert "cleo" in page.text
    texts = lou.http.get("/lead/person/ann").text
    assert "A red ball rolls." in texts
    assert "data-before" in texts
    assert lou.http.get("/lead/person/nobody").status_code == 404
    out = lou.http.post("/api/people/exclude", json={"name": "ann", "reason": "guesses"})
    assert out.json() == {"excluded": True}
    assert ann.http.post("/api/next", json={}).status_code == 401
    assert lou.http.post("/api/people/exclude", json={"name": "lou", "reason": "x"}).status_code == 422
    assert lou.http.post("/api/people/exclude", json={"name": "ann", "reason": "does not", "undo": True}).json() == {
        "excluded": False
    }


def test_refiners_see_none_of_it(ann: Refiner) -> None:
    for path in (
        "/clips",
        "/lead",
        "/lead/person/ann",
        "/api/clips",
        "/api/clips/x",
        "/api/clips/x/neighbours",
        "/api/rejects",
        "/api/search",
    ):
        assert ann.http.get(path).status_code == 403, path
    for path, body in (
        ("/api/people", {"name": "x"}),
        ("/api/people/exclude", {"name": "x", "reason": "y"}),
        ("/api/clips/x/verdict", {"kept": True, "reason": "y"}),
    ):
        assert ann.http.post(path, json=body).status_code == 403, path


def test_what_failed_is_counted_and_named(lou: Refiner, workspace: Workspace) -> None:
    before = lou.http.get("/api/rejects").json()["num_rows"]
    with workspace.lock():
        workspace.add_rejected(round=0, stage="ingest", uri="/videos/broken.mp4", clip_id="", reason="no moov atom")
    said = lou.http.get("/api/rejects").json()
    assert said["num_rows"] == before + 1
    assert said["rows"][0]["file"] == "broken.mp4"
    assert {"stage": "ingest", "reason": "no moov atom", "rows": 1} in said["reasons"]

"""The review page's API: what each person is given, and what is kept of their words."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sql

from flywheel.core.types import Annotation, NoiseSignal
from flywheel.rounds import RoundContext
from flywheel.rounds.stages.review import num_corrections
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from flywheel.store.database import sqlite_url
from human_refine.server import create_app
from tests.conftest import ON_POSTGRESQL
from tests.human_refine.page_bed import Refiner


@pytest.mark.slow
def test_every_text_lies_before_one_person_once(ann: Refiner, bob: Refiner, workspace: Workspace) -> None:
    seen: list[str] = []
    for person in [ann, bob] * 20:
        item = person.next()
        if item is None:
            break
        seen.append(item["annotation_id"])
        assert person.say(item, "accept").status_code == 200
    wanted = set(workspace.annotations(round=1, kind="caption")["id"])
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted
    assert workspace.corrections().height == len(wanted)
    assert ann.next() is None


def test_what_is_open_comes_again_and_is_nobody_elses(ann: Refiner, bob: Refiner) -> None:
    mine = ann.next()
    assert ann.next()["annotation_id"] == mine["annotation_id"], "a reloaded page shows the same text"
    assert bob.next()["annotation_id"] != mine["annotation_id"]


@pytest.mark.slow
def test_edits_accepts_rejects_and_what_a_round_makes_of_them(ann: Refiner, workspace: Workspace, app: object) -> None:
    texts: dict[str, str | None] = {}
    for verdict, text in (("edit", " A red  ball\nrolls. "), ("accept", ""), ("reject", "")):
        item = ann.next()
        assert (
            ann.say(item, verdict, text, reason="about another clip" if verdict == "reject" else "").status_code == 200
        )
        texts[item["clip_id"]] = {"edit": "A red ball rolls.", "accept": item["text"], "reject": None}[verdict]
    skipped = ann.next()
    assert ann.say(skipped, "skip").status_code == 200
    assert ann.next()["annotation_id"] != skipped["annotation_id"]
    assert {c: h.text for c, h in CurrentTexts(workspace).human.items()} == texts
    assert num_corrections(RoundContext(workspace), 1) == 3
    # An edit that changes nothing is an accept.
    item = ann.next()
    assert ann.say(item, "edit", item["text"] + "  ").json()["verdict"] == "accept"
    assert ann.say(ann.next(), "accept", "Another text.").json()["verdict"] == "edit", "its words are not thrown away"


@pytest.mark.slow
def test_timed_cues(ann: Refiner, workspace: Workspace, app: object) -> None:
    """A dense caption is a text of its own: its cues come back as they were put right, what can't be is said, and an
    untouched one is an accept."""
    train = sorted(workspace.clips("train")["id"])[:2]
    cues = [{"start_s": 0.2, "end_s": 1.0, "text": "A bell."}, {"start_s": 1.0, "end_s": 2.5, "text": "A dog."}]
    rows = [
        Annotation(
            id=f"d{i}",
            round=1,
            kind="dense_caption",
            clip_id=clip,
            generation_id="",
            source="model",
            text="A bell. A dog.",
            mean_logprob=-9.0,
            payload=json.dumps({"cues": cues}),
        )
        for i, clip in enumerate(train)
    ]
    with workspace.lock():
        workspace.add_annotations(rows, 1)
    app.state.review.service.queue.refresh(force=True)  # type: ignore[attr-defined]
    found = {}
    while (item := ann.next()) is not None:
        if item["kind"] == "caption":
            ann.say(item, "accept")
            continue
        found[item["annotation_id"]] = item
        assert item["written"] == cues
        for wrong, reason in (
            ([{"start_s": 2, "end_s": 1, "text": "x"}], "need 0 <= start_s"),
            ([{"start_s": 0, "end_s": 2, "text": "x"}, {"start_s": 1, "end_s": 3, "text": "y"}], "overlap"),
            ([{"start_s": 0, "end_s": 99, "text": "x"}], "need 0 <= start_s"),
            ([{"start_s": 0, "end_s": 1, "text": " "}], "says nothing"),
            ([], "needs cues"),
        ):
            answer = ann.say(item, "edit", cues=wrong)
            assert answer.status_code == 422, wrong
            assert reason in answer.json()["detail"]
        better = [{**cues[0], "end_s": 1.1}, {"start_s": 1.1, "end_s": 2.5, "text": "Two dogs."}]
        said = better if item["annotation_id"] == "d0" else cues
        answer = ann.say(item, "edit", cues=said)
        assert answer.json()["verdict"] == ("edit" if said is better else "accept")
    assert set(found) == {"d0", "d1"}
    kept = {c.annotation_id: c for c in workspace.correction_records() if c.annotation_id in found}
    assert json.loads(kept["d0"].payload)["cues"] == better
    assert kept["d0"].text == "A bell. Two dogs."
    assert kept["d1"].payload == ""
    assert len(CurrentTexts(workspace).human) == workspace.annotations(round=1, kind="caption").height, (
        "captions are what a round learns"
    )


@pytest.mark.slow
def test_who_spoke_is_not_asked_again_in_the_next_round(ann: Refiner, workspace: Workspace, app: object) -> None:
    first, second = ann.next(), None
    ann.say(first, "edit", "What is right.")
    second = ann.next()
    ann.say(second, "skip")
    context = RoundContext(
        Workspace.open(workspace.root, ["tracking.enabled=false", "annotate.engine=fake", "annotate.max_new_tokens=9"])
    )
    context.ask(context.split("train", "anchor"), by=0, round=2)
    context.workspace.database.close()
    app.state.review.service.queue.refresh(force=True)  # type: ignore[attr-defined]
    seen = set()
    while (item := ann.next()) is not None:
        assert item["round"] == 2
        assert item["earlier"][0]["round"] == 1, "the earlier text stands beside it"
        seen.add(item["clip_id"])
        ann.say(item, "accept")
    assert first["clip_id"] not in seen
    assert second["clip_id"] in seen, "what was skipped may be asked again of a new text"


def test_suspected_and_changed_texts_come_forward(workspace: Workspace) -> None:
    captions = workspace.annotations(round=1, kind="caption").sort("mean_logprob", "id")
    train = captions.filter(captions["clip_id"].is_in(workspace.clips("train")["id"].to_list())).to_dicts()
    suspect, changed = train[-1], train[-2]
    with workspace.lock():
        workspace.add_noise_signals([NoiseSignal(annotation_id=suspect["id"], origin="adatailr", value=0.9)], 1)
        # By doubt alone these two would come last.
        rows = [
            Annotation(
                **{
                    **row,
                    "id": f"second-{row['id']}",
                    "round": 2,
                    "mean_logprob": -1.0 + i / 100,
                    "text": "Quite another text." if row["clip_id"] == changed["clip_id"] else row["text"],
                }
            )
            for i, row in enumerate(captions.iter_rows(named=True))
        ]
        workspace.add_annotations(rows, 2)
    queue = create_app(
        Workspace.open(workspace.root, ["review.random_share=0", "review.order=[doubt,change,noise]"])
    ).state.review.service.queue
    first = [place for place in queue.places() if place.why != "anchor"][:3]
    assert [item.why for item in first] == ["doubt", "change", "noise"]
    assert [item.annotation_id for item in first[1:]] == [f"second-{changed['id']}", f"second-{suspect['id']}"]


def test_undo_takes_back_and_shows_again(ann: Refiner, workspace: Workspace) -> None:
    assert ann.http.post("/api/undo").json()["item"] is None
    first = ann.next()
    ann.say(first, "edit", "Something else.")
    second = ann.next()
    ann.say(second, "skip")
    again = ann.http.post("/api/undo").json()["item"]
    assert again["annotation_id"] == second["annotation_id"]
    again = ann.http.post("/api/undo").json()["item"]
    assert again["annotation_id"] == first["annotation_id"]
    assert CurrentTexts(workspace).human == {}
    assert ann.next()["annotation_id"] in (first["annotation_id"], second["annotation_id"])
    assert ann.say(again, "accept").status_code == 200
    history = ann.http.get(f"/api/history/{first['annotation_id']}").json()["history"]
    assert [(h["verdict"], h["after"]) for h in history] == [
        ("edit", "Something else."),
        ("withdraw", first["text"]),
        ("accept", first["text"]),
    ]
    assert all(h["refiner"] == "ann" and h["at"] for h in history)


def test_two_tabs_never_overwrite(ann: Refiner, workspace: Workspace) -> None:
    tab = ann.next()
    assert ann.say(tab, "edit", "From the first tab.").status_code == 200
    late = ann.say(tab, "edit", "From the second tab.")
    assert late.status_code == 409
    assert late.json()["other"]["text"] == "From the first tab."
    assert ann.say({**tab, "base": late.json()["other"]["id"]}, "edit", "From the second tab.").status_code == 200
    assert CurrentTexts(workspace).human[tab["clip_id"]].text == "From the second tab."
    assert workspace.corrections().height == 2


def test_the_same_saving_twice_is_one(ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    answers = [ann.say(item, "edit", "Only once.", save_id="0123456789").json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert workspace.corrections().height == 1


def test_words_written_after_an_answer_was_lost_replace_the_first_try(ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    ids = []
    for words in ("A first version.", "A second version.", "A second version.", "A third one."):
        answer = ann.say(item, "edit", words, save_id="0123456789")
        assert answer.status_code == 200, "the page still has the base and the id of the first try"
        ids.append(answer.json()["id"])
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3
    assert CurrentTexts(workspace).human[item["clip_id"]].text == "A third one."
    assert ann.say(item, "reject", reason="no", save_id="0123456789").json()["id"] not in ids


def test_a_lease_that_ran_out_is_another_persons(ann: Refiner, bob: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE leases SET until = 1"))
    others = bob.next()
    assert others["annotation_id"] == item["annotation_id"]
    late = ann.say(item, "edit", "Too late.")
    assert late.status_code == 409
    assert "bob" in late.json()["detail"]
    assert ann.http.post("/api/lease", json={"annotation_id": item["annotation_id"]}).json() == {"yours": False}
    # Where nobody took it, what was written late is kept.
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE leases SET until = 1"))
    assert ann.say(item, "edit", "Not too late.").status_code == 200


def test_a_clock_that_is_set_back(ann: Refiner, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    import human_refine.service as service

    item = ann.next()
    ann.say(item, "edit", "First.")

    class Back(service.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: object = None) -> object:
            return service.datetime(2001, 1, 1, tzinfo=service.UTC)

    monkeypatch.setattr(service, "datetime", Back)
    ann.http.post("/api/undo")
    monkeypatch.undo()
    assert CurrentTexts(workspace).human == {}, "what was taken back is not put before what it takes back"


def test_no_word_is_taken_by_a_database_that_was_moved(ann: Refiner, workspace: Workspace, tmp_path: Path) -> None:
    """As `flywheel move-database` does beside a running page: what is said would be in the old one alone."""
    item = ann.next()
    mover = Workspace.open(workspace.root)
    with mover.lock():
        mover.move_database(sqlite_url(tmp_path / "there.db"))
    mover.database.close()
    answer = ann.say(item, "edit", "A red ball.")
    assert answer.status_code == 503
    assert "was moved to" in answer.json()["detail"]
    assert workspace.corrections().is_empty()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\x00b", r"U\+0000"),
        ("x" * 201, "201 characters, at most 200"),
        ("  ", "this one is empty"),
        ("a\u202egnp.b", "U\\+202E"),
    ],
)
def test_texts_that_are_refused(ann: Refiner, workspace: Workspace, text: str, reason: str) -> None:
    answer = ann.say(ann.next(), "edit", text)
    assert answer.status_code == 422
    assert re.search(reason, answer.json()["detail"])
    assert workspace.corrections().is_empty()


@pytest.mark.skipif(ON_POSTGRESQL, reason="tells SQLite itself to be full")
@pytest.mark.slow
def test_a_full_disk_is_said_and_nothing_is_half_kept(ann: Refiner, workspace: Workspace) -> None:
    """SQLite itself is told that there is no more room; with room again, what was written is saved as if nothing had
    been."""
    with workspace.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def full(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    item = ann.next()
    sql.event.listen(workspace.database.engine, "checkout", full)
    statuses = []
    for number in range(300):
        # Each on top of the last, until a page more is needed and not to be had.
        answer = ann.say(item, "edit", "word " * 38 + str(number), save_id=f"number-{number:04d}")
        statuses.append(answer.status_code)
        if answer.status_code != 200:
            break
        item["base"] = answer.json()["id"]
    assert statuses[-1] == 503, statuses[-5:]
    assert "full" in answer.json()["detail"]
    assert workspace.corrections().height == len(statuses) - 1, "what was acknowledged is there, what was not is not"
    sql.event.remove(workspace.database.engine, "checkout", full)
    workspace.database.engine.dispose()
    assert ann.say(item, "edit", "word " * 38 + "again", save_id=f"number-{number:04d}").status_code == 200
    assert workspace.corrections().height == len(statuses)

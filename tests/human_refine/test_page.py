"""The review page's API: who may, what is kept, what is refused. Real database, real videos; the browser's tests are
beside it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
import sqlalchemy as sql
from anyio.to_thread import current_default_thread_limiter
from fastapi.testclient import TestClient

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, NoiseSignal
from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.encode import transcode
from flywheel.rounds import RoundContext
from flywheel.rounds.stages.review import num_corrections
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace, leases
from flywheel.store.database import sqlite_url
from human_refine.people import invite
from human_refine.server import create_app
from human_refine.sessions import COOKIE
from tests.conftest import ON_POSTGRESQL

Make = Callable[..., Workspace]


class Refiner:
    """A person with a page: what the page's script sends."""

    def __init__(self, app: object, workspace: Workspace, name: str, role: str = "refiner") -> None:
        self.name, self.token = name, invite(workspace, name, role)
        self.http = TestClient(app, follow_redirects=True)  # type: ignore[arg-type]
        page = self.http.get(f"/invite/{self.token}")
        assert page.status_code == 200
        found = re.search(r'name="csrf" content="([0-9a-f]+)"', page.text)
        assert found
        self.http.headers["X-CSRF-Token"] = found[1]
        self.saves = 0

    def next(self, without: str = "") -> dict:  # type: ignore[type-arg]
        answer = self.http.post("/api/next", json={"without": without})
        assert answer.status_code == 200, answer.text
        return answer.json()["item"]  # type: ignore[no-any-return]

    def say(self, item: dict, verdict: str, text: str = "", **more: object):  # type: ignore[no-untyped-def, type-arg]
        self.saves += 1
        body = {
            "annotation_id": item["annotation_id"],
            "verdict": verdict,
            "text": text,
            "seconds": 2.5,
            "base": item["base"],
            "save_id": f"save-{self.name}-{self.saves:04d}",
            **more,
        }
        return self.http.post("/api/corrections", json=body)


def _upload(person: Refiner, rows: list[dict[str, str]]):  # type: ignore[no-untyped-def]
    content = "\n".join(map(json.dumps, rows)).encode()
    return person.http.post("/api/corrections/import", files={"file": ("a.jsonl", content)})


def _times(workspace: Workspace) -> list[datetime]:
    with workspace.database.transaction() as connection:
        return [
            datetime.fromisoformat(at) for at in connection.execute(sql.text("SELECT at FROM corrections")).scalars()
        ]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A workspace whose first round has texts; each test works on a copy."""
    folder = tmp_path_factory.mktemp("annotated") / "w"
    Workspace.create(folder, template())
    w = Workspace.open(folder, ["tracking.enabled=false", "annotate.engine=fake"])
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
        context = RoundContext(w)
        context.ask(context.split("train", "anchor"), by=0, round=1)
    w.database.close()
    return folder


@pytest.fixture
def workspace(annotated: Path, tmp_path: Path, make_workspace: Make) -> Workspace:
    shutil.copytree(annotated, tmp_path / "w", ignore=shutil.ignore_patterns("cache"))
    return make_workspace("review.max_chars=200", "review.upload_mib=1", "review.overlap_share=0")


@pytest.fixture
def app(workspace: Workspace) -> object:
    return create_app(workspace)


@pytest.fixture
def ann(app: object, workspace: Workspace) -> Refiner:
    return Refiner(app, workspace, "ann")


@pytest.fixture
def bob(app: object, workspace: Workspace) -> Refiner:
    return Refiner(app, workspace, "bob")


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


# Who may.


def test_no_action_without_a_token(app: object, workspace: Workspace, ann: Refiner) -> None:
    item = ann.next()
    stranger = TestClient(app)  # type: ignore[arg-type]
    assert stranger.get("/").status_code == stranger.get("/openapi.json").status_code == 401
    assert [stranger.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]
    schema = ann.http.get("/openapi.json").json()["paths"]
    assert len(schema) >= 9
    for path, methods in [*schema.items(), ("/lead", {"get": {}})]:
        filled_in = path.replace("{clip_id}", item["clip_id"]).replace("{annotation_id}", item["annotation_id"])
        for method in methods:
            assert stranger.request(method, filled_in).status_code == 401, (method, path)
    assert workspace.corrections().is_empty()


def test_a_foreign_page_can_do_nothing(ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    for wrong in ("", "0" * 64):
        ann.http.headers["X-CSRF-Token"] = wrong
        assert ann.say(item, "accept").status_code == 403
        assert ann.http.post("/api/next", json={}).status_code == 403
        assert ann.http.post("/api/corrections/import", files={"file": ("a.jsonl", b"{}")}).status_code == 403
    assert workspace.corrections().is_empty()


def test_scripts_bring_their_token(app: object, ann: Refiner) -> None:
    script = TestClient(app, headers={"Authorization": f"Bearer {ann.token}"})  # type: ignore[arg-type]
    assert script.post("/api/next", json={}).status_code == 200


def test_roles(ann: Refiner, app: object, workspace: Workspace) -> None:
    assert ann.http.get("/lead").status_code == 403
    lead = Refiner(app, workspace, "lou", "lead")
    ann.say(ann.next(), "accept")
    page = lead.http.get("/lead")
    assert page.status_code == 200
    assert "ann" in page.text


def test_invites(workspace: Workspace, app: object, ann: Refiner) -> None:
    with pytest.raises(UserError, match="There are refiner, lead"):
        invite(workspace, "x", "boss")
    for name in ("", "<b>", " x", "y" * 41):
        with pytest.raises(UserError, match="--name"):
            invite(workspace, name, "refiner")
    invite(workspace, "ann", "refiner")
    assert ann.http.post("/api/next", json={}).status_code == 401, "a new link ends the old one"
    with workspace.database.transaction() as connection:
        stored = connection.execute(sql.text("SELECT * FROM refiners")).all()
    assert ann.token not in str(stored)


def test_what_comes_from_files_while_the_page_is_served(
    ann: Refiner, workspace: Workspace, app: object, tmp_path: Path
) -> None:
    """The command line's import is noticed: who has settled a text is not asked again, nor is anybody else."""
    from human_refine import import_corrections

    ids = set(workspace.annotations(round=1, kind="caption")["id"])
    left = sorted(ids)[:2]
    file = tmp_path / "c.csv"
    file.write_text("annotation_id,verdict,refiner\n" + "".join(f"{i},accept,bob\n" for i in sorted(ids)[2:]))
    assert import_corrections(workspace, file).added == len(ids) - 2
    app.state.review.service.queue._look()  # type: ignore[attr-defined]
    seen = set()
    while (item := ann.next()) is not None:
        seen.add(item["annotation_id"])
        ann.say(item, "accept")
    assert seen == set(left)


@pytest.mark.slow
def test_only_what_was_given_is_leased(ann: Refiner, bob: Refiner, workspace: Workspace) -> None:
    for annotation_id in workspace.annotations(round=1, kind="caption")["id"]:
        answer = bob.http.post("/api/lease", json={"annotation_id": annotation_id})
        assert answer.json() == {"yours": False}, "it was not given"
    item = ann.next()
    assert ann.http.post("/api/lease", json={"annotation_id": item["annotation_id"]}).json() == {"yours": True}
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE leases SET until = 1"))
    assert ann.http.post("/api/lease", json={"annotation_id": item["annotation_id"]}).json() == {"yours": True}, (
        "a page that slept has its text back where nobody took it"
    )
    for _ in range(5):
        assert ann.say(ann.next(), "accept").status_code == 200
    for _ in range(5):
        ann.http.post("/api/undo")
        ann.next(without=item["annotation_id"])
    assert len(leases.keys_of(workspace, "ann")) <= 4, "what was given does not pile up"


def test_a_refiners_file_is_dated_by_the_server(ann: Refiner, workspace: Workspace, app: object) -> None:
    ids = sorted(workspace.annotations(round=1, kind="caption")["id"])
    times = ["9999-12-31T23:59:59.999999+00:00", "2099-01-01", "0001-01-01T00:00:00+14:00", "2001-01-01"]
    rows = [{"annotation_id": i, "verdict": "accept", "at": at} for i, at in zip(ids, times, strict=False)]
    assert _upload(ann, rows).json()["added"] == 4
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=1) < at <= now for at in _times(workspace))
    boss = Refiner(app, workspace, "boss", role="lead")
    answer = _upload(boss, rows).json()
    assert (answer["added"], answer["num_refused"]) == (1, 3)
    assert ["in the future" in line for line in answer["refused"]] == [True, True, False]
    assert "before the year 2000" in answer["refused"][2]


def test_rows_dated_in_the_future_before_break_no_saving(workspace: Workspace) -> None:
    first = Refiner(create_app(workspace), workspace, "ann")
    assert first.say(first.next(), "accept").status_code == 200
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE corrections SET at = '9999-12-31T23:59:59.999999+00:00'"))
    again = Refiner(create_app(workspace), workspace, "bob")
    assert again.say(again.next(), "accept").status_code == 200
    assert min(_times(workspace)) <= datetime.now(UTC), "what is said now is dated now"


def test_a_file_corrects_only_what_the_page_offers(ann: Refiner, workspace: Workspace, app: object) -> None:
    given = workspace.annotations(round=0)["id"][0]
    clip_id = workspace.clips("test")["id"][0]
    hidden = [
        Annotation(
            id=f"hidden{purpose}{clip}",
            round=1,
            kind="caption",
            clip_id=clip,
            generation_id="",
            source="model",
            text="A bell.",
            mean_logprob=0.0,
            purpose=purpose,
        )
        for purpose, clip in (("measure", clip_id), ("learn", clip_id), ("measure", workspace.clips("train")["id"][0]))
    ]
    with workspace.lock():
        workspace.add_annotations(hidden, round=1)
    names = [given, *(annotation.id for annotation in hidden)]
    rows = [{"annotation_id": name, "verdict": "edit", "text": "Mine."} for name in names]
    for person in (ann, Refiner(app, workspace, "boss", role="lead")):
        refused = _upload(person, rows).json()["refused"]
        assert len(refused) == len(rows)
        assert all("none that the page offers" in line for line in refused)


def test_a_foreign_authorization_header_is_no_pass(ann: Refiner) -> None:
    """A proxy's own header says nothing of where a request came from; our token in it does."""
    foreign = {"X-CSRF-Token": "", "Origin": "http://evil.example"}
    for header in ("Basic YTpi", "Bearer", "Bearer ", "Negotiate x"):
        for path in ("/api/next", "/api/undo"):
            answer = ann.http.post(path, json={}, headers={**foreign, "Authorization": header})
            assert answer.status_code == 403, (path, header)
    token = {"X-CSRF-Token": "", "Authorization": f"Bearer {ann.token}"}
    assert ann.http.post("/api/next", json={}, headers=token).status_code == 200
    ann.http.cookies.clear()
    assert ann.http.post("/api/next", json={}, headers=token).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["srt", "vtt", "csv", "jsonl", "json"])
def test_no_upload_holds_up_the_others(ann: Refiner, suffix: str) -> None:
    began = time.process_time()
    for part in ("1", "<", " ", ":"):
        file = {"file": (f"a.{suffix}", ("00:00.0 --> 00:01.0\n" + part * 500_000).encode())}
        assert ann.http.post("/api/corrections/import", files=file).status_code < 500
    assert time.process_time() - began < 1.5


def test_wrong_tokens_are_limited(app: object, workspace: Workspace) -> None:
    stranger = TestClient(app)  # type: ignore[arg-type]
    answers = [stranger.get(f"/invite/{i:043d}").status_code for i in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert stranger.post("/api/next", json={}, headers={"Authorization": "Bearer x"}).status_code == 429
    # Behind one address there may be a whole team: whoever has a link goes on.
    assert Refiner(app, workspace, "ann").next() is not None


def test_a_session_is_not_the_token_and_ends(app: object, workspace: Workspace, ann: Refiner) -> None:
    session = ann.http.cookies[COOKIE]
    assert session != ann.token
    with workspace.database.transaction() as connection:
        stored = str(connection.execute(sql.text("SELECT * FROM sessions")).all())
    assert session not in stored
    assert ann.token not in stored
    other = TestClient(app)  # type: ignore[arg-type]
    assert other.get("/api/progress", headers={"Authorization": f"Bearer {session}"}).status_code == 401
    assert other.get("/api/progress", headers={"Cookie": f"{COOKIE}={ann.token}"}).status_code == 401
    twice = TestClient(app)  # type: ignore[arg-type]
    twice.get(f"/invite/{ann.token}")
    assert ann.http.post("/api/sign-out", headers={"X-CSRF-Token": ""}).status_code == 403
    assert ann.http.post("/api/sign-out").json() == {"signed_out": True}
    ann.http.cookies.set(COOKIE, session)
    assert ann.http.get("/api/progress").status_code == 401, "also for who kept the cookie"
    assert twice.get("/api/progress").status_code == 200, "another browser's session goes on"
    token = {"Authorization": f"Bearer {ann.token}"}
    assert ann.http.get("/api/progress", headers=token).status_code == 200
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE sessions SET until = 1"))
    assert twice.get("/api/progress").status_code == 401, "a month is over"
    twice.get(f"/invite/{ann.token}")
    invite(workspace, "ann", "refiner")
    assert twice.get("/api/progress").status_code == 401, "a new link ends the sessions of the old one"


def test_a_foreign_link_changes_nobodys_name_unasked(app: object, workspace: Workspace, ann: Refiner) -> None:
    foreign = invite(workspace, "eve", "refiner")
    asked = ann.http.get(f"/invite/{foreign}")
    assert "signed in as <b>ann</b>" in asked.text
    assert ">ann</p>" in ann.http.get("/").text
    assert ann.http.post(f"/invite/{foreign}").status_code == 403, "a foreign page can send the form, and not its word"
    assert ">ann</p>" in ann.http.get("/").text
    assert TestClient(app).post(f"/invite/{foreign}").status_code == 403  # type: ignore[arg-type]
    found = re.search(r'name="word" value="([0-9a-f]+)"', asked.text)
    assert found
    assert ">eve</p>" in ann.http.post(f"/invite/{foreign}", data={"word": found[1]}).text
    assert ">eve</p>" in ann.http.get(f"/invite/{foreign}").text, "one's own link asks nothing"


def test_cookie_and_headers(app: object, workspace: Workspace) -> None:
    http = TestClient(app, follow_redirects=False)  # type: ignore[arg-type]
    answer = http.get(f"/invite/{invite(workspace, 'ann', 'refiner')}")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE)
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    page = http.get("/")
    assert "script-src" not in page.headers["content-security-policy"], "default-src 'self' is for scripts too"
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"https?://(?!127)", page.text), "works without the network"


def test_names_and_texts_are_never_markup(app: object, workspace: Workspace, ann: Refiner) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    assert ann.say(ann.next(), "edit", attack).status_code == 200
    item = ann.http.post("/api/undo").json()["item"]
    assert item["mine"] == "", "what was taken back is not put before the person as theirs"
    lead = Refiner(app, workspace, "lou", "lead")
    workspace.database.engine.dispose()
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE corrections SET refiner = '<script>alert(2)</script>'"))
    assert "<script>alert" not in lead.http.get("/lead").text
    assert "&lt;script&gt;alert(2)" in lead.http.get("/lead").text
    assert (Path(__file__).parents[2] / "human_refine" / "static" / "review.js").read_text().count("innerHTML") == 0


# Media.


def test_media_by_range(ann: Refiner) -> None:
    item = ann.next()
    whole = ann.http.get(item["media"])
    assert whole.status_code == 200
    assert whole.headers["content-type"] == "video/mp4"
    part = ann.http.get(item["media"], headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert ann.http.get(item["media"], headers={"Range": f"bytes={len(whole.content) + 5}-"}).status_code == 416
    peaks = ann.http.get(f"/api/waveform/{item['clip_id']}").json()["peaks"]
    assert len(peaks) == 400
    assert 0.05 < max(peaks) <= 1


def test_nobody_waits_for_anothers_waveform(app: object, ann: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than the server has threads, on a disk that does not answer."""
    disk, asked_for = threading.Event(), threading.Event()

    def slow(path: Path, *span: float, **options: int) -> object:
        asked_for.set()
        assert disk.wait(60)
        return read_audio(path, *span, **options)

    monkeypatch.setattr("human_refine.media.read_audio", slow)
    sounds = f"/api/waveform/{ann.next()['clip_id']}"
    page = TestClient(app, headers=ann.http.headers, cookies=ann.http.cookies)  # type: ignore[arg-type]
    with page, ThreadPoolExecutor(8) as people:
        assert page.portal is not None
        threads = page.portal.call(current_default_thread_limiter)
        threads.total_tokens = 4
        waiting = [people.submit(page.get, sounds) for _ in range(6)]
        assert asked_for.wait(20)
        time.sleep(0.3)
        try:
            assert people.submit(page.post, "/api/next", json={}).result(10).json()["item"] is not None
            assert not any(one.done() for one in waiting)
        finally:
            disk.set()
        assert {one.result().status_code for one in waiting} == {200}


@pytest.mark.parametrize(
    "path", ["../flywheel.db", "..%2fflywheel.db", "%2e%2e/flywheel.yaml", "/etc/passwd", "....//flywheel.db", "x" * 65]
)
def test_media_is_no_way_to_files(ann: Refiner, path: str) -> None:
    for place in ("/media/", "/static/"):
        answer = ann.http.get(place + path)
        assert answer.status_code in (404, 422), (place, path)
        assert b"SQLite" not in answer.content


def test_a_video_that_is_gone(ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    clip = create_app(workspace).state.review.service.queue.clip(item["clip_id"])
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE locations SET uri = '/nowhere.mp4'"))
    fresh = TestClient(create_app(workspace), headers={"Authorization": f"Bearer {ann.token}"})
    answer = fresh.get(f"/media/{clip.id}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "the file is gone")


@pytest.mark.slow
def test_what_browsers_cannot_play_becomes_what_they_can(real_clips: Path, make_workspace: Make) -> None:
    from flywheel.media.probe import probe
    from human_refine.media import Proxies, playable

    w = make_workspace()
    with w.lock():
        ingest(w, [str(real_clips)])
    from flywheel.store.view import clip_of

    for row in w.clips().iter_rows(named=True):
        clip = clip_of(row)
        file = Proxies(w.root / "cache" / "proxies", 10**9).file(clip, 60)
        assert playable(file), clip.uri
        assert abs(probe(file).duration_s - probe(Path(clip.uri)).duration_s) < 0.2, clip.uri


@pytest.mark.slow
def test_nobody_waits_for_anothers_copy(
    ann: Refiner, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video that has to be made playable: 202 until it is there, and all else goes on."""
    others_went_on = threading.Event()

    def slow(*arguments: object, **options: object) -> None:
        assert others_went_on.wait(60)
        transcode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("human_refine.media.transcode", slow)
    long = tmp_path / "long.mkv"
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    with av.open(str(long), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with workspace.lock():
        assert ingest(workspace, [str(long)]).clips == 1
    clip_id = workspace.clips().filter(workspace.clips()["uri"] == str(long))["id"][0]
    first = ann.http.get(f"/api/video/{clip_id}")
    assert (first.status_code, first.json()["ready"]) == (202, False)
    assert ann.http.get(f"/media/{clip_id}").status_code == 202
    began = time.monotonic()
    item = ann.next()
    assert ann.http.get(f"/api/video/{item['clip_id']}").json() == {"ready": True}, (
        "what browsers play is there at once"
    )
    assert ann.say(item, "accept").status_code == 200
    assert ann.http.get(f"/api/video/{clip_id}").status_code == 202, "all of this while it is made"
    others_went_on.set()
    while (answer := ann.http.get(f"/api/video/{clip_id}")).status_code == 202:
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    assert answer.json() == {"ready": True}
    assert ann.http.get(f"/media/{clip_id}", headers={"Range": "bytes=0-9"}).status_code == 206


# Files.


def test_upload_with_a_preview_and_bad_rows(ann: Refiner, workspace: Workspace) -> None:
    ids = sorted(workspace.annotations(round=1, kind="caption")["id"])
    rows = (
        f'{{"annotation_id": "{ids[0]}", "verdict": "edit", "text": "From a file.", "refiner": "bob"}}\n'
        f'{{"annotation_id": "nope", "verdict": "accept"}}\n'
        f'{{"annotation_id": "{ids[1]}", "verdict": "accept"}}\nnot json\n'
    ).encode()
    for preview, kept in ((True, 0), (False, 2), (False, 2)):
        answer = ann.http.post(
            f"/api/corrections/import?preview={str(preview).lower()}", files={"file": ("c.jsonl", rows)}
        )
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["num_refused"] == 2
        assert any("line 2" in r and "unknown" in r for r in said["refused"])
        assert workspace.corrections().height == kept
    assert (said["added"], said["known"]) == (0, 2)
    assert set(workspace.corrections()["refiner"]) == {"ann"}, "a refiner's file is that refiner's"


@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        ("c.zip", b"PK\x03\x04" + b"\0" * 100, 415, ".csv, .json, .jsonl"),
        ("c.csv", b"\0" * 100, 422, "needs the column"),
        ("c.csv", b"annotation_id,verdict\n" + b'"' + b"x" * 300_000 + b'",accept\n', 200, "not CSV"),
        ("../../c.jsonl", b"{}", 200, "needs 'annotation_id'"),
        ("c.jsonl", b"[" * 100_000, 200, "not JSON"),
        ("c.jsonl", b"x" * (2 << 20), 413, "too large"),
    ],
)
def test_files_that_are_refused(
    ann: Refiner, workspace: Workspace, name: str, content: bytes, status: int, reason: str
) -> None:
    answer = ann.http.post("/api/corrections/import", files={"file": (name, content)})
    assert answer.status_code == status, answer.text
    assert reason in answer.text
    assert workspace.corrections().is_empty()


def test_a_paste_of_ten_megabytes(ann: Refiner, workspace: Workspace) -> None:
    answer = ann.say(ann.next(), "edit", "x" * (10 << 20))
    assert answer.status_code == 413
    assert "too large" in answer.json()["detail"]
    assert ann.next() is not None


@pytest.mark.slow
def test_overlap_and_agreement(annotated: Path, tmp_path: Path, make_workspace: Make) -> None:
    """Every text lies before two people and no third; how far they agree is measured, and goes into the round's
    report."""
    from flywheel.rounds.stages import review, to_record

    shutil.copytree(annotated, tmp_path / "w", ignore=shutil.ignore_patterns("cache"))
    w = make_workspace("review.overlap_share=1")
    app = create_app(w)
    people = [Refiner(app, w, name) for name in ("ann", "bob", "cy")]
    seen: dict[str, list[str]] = {}
    for person in people * 30:
        if (item := person.next()) is None:
            continue
        seen.setdefault(item["annotation_id"], []).append(person.name)
        assert item["mine"] == ""
        assert (
            person.say(item, "edit", "A red ball rolls." if len(seen) % 2 else "A blue cat sleeps.").status_code == 200
        )
    assert len(seen) == w.annotations(round=1, kind="caption").height
    assert all(len(names) == len(set(names)) == 2 for names in seen.values())
    found = to_record(review.run(RoundContext(w), 1))
    assert found["overlap"] == len(seen)
    assert found["alpha"] <= 1
    assert {r["refiner"] for r in found["refiners"]} == {"ann", "bob", "cy"}
    assert found["seconds_each"] == 2.5
    lead = Refiner(app, w, "lou", "lead")
    assert "Krippendorff" in lead.http.get("/lead").text

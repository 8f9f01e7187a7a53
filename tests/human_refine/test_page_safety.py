"""The review page's API: who may do what, and what no foreign page, link or header can."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sql
from fastapi.testclient import TestClient

from flywheel.core.errors import UserError
from flywheel.core.types import Annotation
from flywheel.store import Workspace, leases
from human_refine.people import invite
from human_refine.server import create_app
from human_refine.sessions import COOKIE
from tests.human_refine.page_bed import Refiner, times_of, upload


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
    refused = ann.http.get("/lead", headers={"Accept": "text/html"})
    assert refused.status_code == 403
    assert "<main" in refused.text, "a page, not JSON"
    assert ann.http.get("/lead", headers={"Accept": "application/json"}).json()["detail"]
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
    assert upload(ann, rows).json()["added"] == 4
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=1) < at <= now for at in times_of(workspace))
    boss = Refiner(app, workspace, "boss", role="lead")
    answer = upload(boss, rows).json()
    assert (answer["added"], answer["num_refused"]) == (1, 3)
    assert ["in the future" in line for line in answer["refused"]] == [True, True, False]
    assert "before the year 2000" in answer["refused"][2]


@pytest.mark.slow
def test_rows_dated_in_the_future_before_break_no_saving(workspace: Workspace) -> None:
    first = Refiner(create_app(workspace), workspace, "ann")
    assert first.say(first.next(), "accept").status_code == 200
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("UPDATE corrections SET at = '9999-12-31T23:59:59.999999+00:00'"))
    again = Refiner(create_app(workspace), workspace, "bob")
    assert again.say(again.next(), "accept").status_code == 200
    assert min(times_of(workspace)) <= datetime.now(UTC), "what is said now is dated now"


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
        refused = upload(person, rows).json()["refused"]
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


@pytest.mark.slow
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
    scripts = sorted((Path(__file__).parents[2] / "human_refine" / "static").glob("*.js"))
    assert len(scripts) > 5
    assert not [script.name for script in scripts if "innerHTML" in script.read_text()]

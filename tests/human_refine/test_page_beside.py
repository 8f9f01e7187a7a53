"""Beside the work on the page: last decisions, a text by its link, what was skipped, flags, guidelines."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sql

from flywheel.core.errors import UserError
from flywheel.store import Workspace
from flywheel.store.flags import flag_of, open_flags, put_flag
from human_refine.guidelines import read_guide
from tests.human_refine.page_bed import Refiner


def _open(person: Refiner, annotation_id: str):  # type: ignore[no-untyped-def]
    return person.http.post("/api/open", json={"annotation_id": annotation_id})


@pytest.mark.slow
def test_last_decisions_links_and_what_was_skipped(
    ann: Refiner, bob: Refiner, workspace: Workspace, app: object
) -> None:
    first = ann.next()
    assert _open(bob, first["annotation_id"]).status_code == 409, "it lies before ann"
    ann.say(first, "edit", "A red ball.")
    skipped = [ann.next()]
    ann.say(skipped[0], "skip")
    skipped.append(ann.next())
    ann.say(skipped[1], "skip")
    recent = ann.http.get("/api/recent").json()["recent"]
    assert [(r["verdict"], r["text"]) for r in recent[1:]] == [("skip", skipped[0]["text"]), ("edit", "A red ball.")]
    again = _open(ann, first["annotation_id"]).json()["item"]
    assert again["mine"] == "A red ball."
    assert ann.say(again, "reject", reason="wrong facts").status_code == 200
    assert len(ann.http.get("/api/recent").json()["recent"]) == 3, "the newest word on each text"
    assert _open(bob, first["annotation_id"]).status_code == 409, "ann settled it, and bob never spoke of it"
    assert _open(ann, "nothing").status_code == 410
    # Another settles one of the two that were skipped.
    theirs = _open(bob, skipped[0]["annotation_id"]).json()["item"]
    bob.say(theirs, "accept")
    service = app.state.review.service  # type: ignore[attr-defined]
    assert service.counts("ann", finished=True)["skipped"] == 1
    back = ann.http.post("/api/again", json={}).json()["item"]
    assert back["annotation_id"] == skipped[1]["annotation_id"]
    ann.say(back, "accept")
    assert ann.http.post("/api/again", json={}).json()["counts"]["skipped"] == 0
    assert workspace.corrections().filter(verdict="skip").height == 2


def test_a_flag_is_kept_taken_away_and_goes_with_its_clip(ann: Refiner, workspace: Workspace) -> None:
    item = ann.next()
    body = {"annotation_id": item["annotation_id"], "flagged": True, "note": "is this a bell?"}
    assert ann.http.post("/api/flags", json=body).json() == {"flagged": True}
    assert ann.next()["flag"] == {"flagged": True, "note": "is this a bell?"}
    assert ann.http.post("/api/flags", json={**body, "note": "a\x00b"}).status_code == 422
    assert ann.http.post("/api/flags", json={**body, "annotation_id": "nothing"}).status_code == 410
    put_flag(workspace, "other", item["clip_id"], "bob", flagged=True)
    assert [flag.refiner for flag in open_flags(workspace, 9)] == ["bob", "ann"], "the newest first"
    assert ann.http.post("/api/flags", json={**body, "flagged": False}).json() == {"flagged": False}
    assert flag_of(workspace, item["annotation_id"], "ann") is None
    workspace.takedowns.forget_people([item["clip_id"]])
    assert open_flags(workspace, 9) == []


def test_a_workspace_of_before_there_were_flags(workspace: Workspace) -> None:
    with workspace.database.transaction() as connection:
        connection.execute(sql.text("DROP TABLE flags"))
    again = Workspace.open(workspace.root)
    put_flag(again, "a", "c", "ann", flagged=True)
    assert len(open_flags(again, 9)) == 1
    again.database.close()


def test_guidelines(tmp_path: Path) -> None:
    assert read_guide("", tmp_path) is None
    (tmp_path / "guide.md").write_text(
        "# What to write\nName what moves,\nand how.\n- colours\n  and shapes\n* sounds\n"
    )
    guide = read_guide("guide.md", tmp_path)
    assert guide is not None
    assert [(b.kind, b.text, list(b.lines)) for b in guide.blocks] == [
        ("heading", "What to write", []),
        ("paragraph", "Name what moves, and how.", []),
        ("items", "", ["colours and shapes", "sounds"]),
    ]
    (tmp_path / "picture.md").write_bytes(b"\xff\xfe\x00\x9d")
    for name, why in (("none.md", "can't be read"), ("picture.md", "no UTF-8"), (".", "can't be read")):
        with pytest.raises(UserError, match=why):
            read_guide(name, tmp_path)

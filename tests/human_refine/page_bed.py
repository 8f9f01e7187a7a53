"""People with a page before a workspace whose first round has texts: real database, real videos."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sql
from fastapi.testclient import TestClient

from flywheel.store import Workspace
from human_refine.people import invite

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


def upload(person: Refiner, rows: list[dict[str, str]]):  # type: ignore[no-untyped-def]
    content = "\n".join(map(json.dumps, rows)).encode()
    return person.http.post("/api/corrections/import", files={"file": ("a.jsonl", content)})


def times_of(workspace: Workspace) -> list[datetime]:
    with workspace.database.transaction() as connection:
        return [
            datetime.fromisoformat(at) for at in connection.execute(sql.text("SELECT at FROM corrections")).scalars()
        ]

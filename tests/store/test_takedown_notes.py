"""What a takedown notes of many clips, as one file of hours has them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sql

from flywheel.store import Workspace, schema


@pytest.mark.slow
def test_where_many_clips_were_used_is_noted_once(make_workspace: Callable[..., Workspace]) -> None:
    """Noted with each of them it would be quadratic: by computation some 190 GB for fifty thousand."""
    w = make_workspace()
    ids = [f"{number:020d}" for number in range(40_000)]
    usage = {"learned": [{"clip_id": i, "round": 1, "stage": "pretrain", "use": "learned"} for i in ids[:3000]]}
    with w.lock():
        w.takedowns.note(ids, "asked for", usage)
        w.takedowns.note(["other"], "asked for", {"learned": []})
        assert w.takedowns.forget_people(ids) == 0, "more ids than a query may have"
    assert w.takedowns.usage(ids) == usage
    assert w.takedowns.usage(ids[-1:]) == usage, "of each clip it is known"
    assert w.takedowns.usage(["other"]) == {"learned": []}
    assert w.takedowns.usage(["none"]) is None
    with w.database.transaction() as connection:
        chars = connection.execute(sql.select(sql.func.sum(sql.func.length(schema.takedowns.c.usage)))).scalar_one()
    assert chars < len(json.dumps(usage)) + 50 * len(ids)

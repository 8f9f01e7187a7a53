"""Schemathesis against the API's own schema: whatever is sent, it never fails inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.store import Workspace
from human_refine.people import invite
from human_refine.server import create_app

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_no_request_makes_it_fail_inside(
    workspace: Workspace,
    make_workspace: Callable[..., Workspace],
    tmp_path: Path,
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    headers = {"Authorization": f"Bearer {invite(workspace, 'fuzz', 'lead')}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(workspace), headers=headers)
    seen: set[str] = set()
    for operation in schema.get_all_operations():
        found = operation.ok()

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=found.as_strategy())
        def send(case: object) -> None:
            answer = case.call(headers=headers)  # type: ignore[attr-defined]
            assert answer.status_code < 500, (answer.status_code, answer.text[:300])

        send()
        seen.add(f"{found.method.upper()} {found.path}")
    assert len(seen) >= 9, seen

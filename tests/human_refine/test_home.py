"""The home page of a workspace: rounds with verdicts and figures, what comes next, and one process that serves it."""

from __future__ import annotations

import socket

import pytest

from flywheel.core.errors import UserError
from flywheel.rounds.home import home_of
from flywheel.store import Workspace
from flywheel.store.serving import only_home
from human_refine.people import invite
from human_refine.serve import bound
from human_refine.server import create_app
from tests.human_refine.page_bed import Refiner

_F1 = {"value": 0.4, "low": 0.38, "high": 0.42, "n": 9}
_BETTER = {"value": 0.6, "low": 0.55, "high": 0.65, "n": 9}


def _measured(workspace: Workspace, round: int, f1: dict[str, float], **gate: object) -> None:
    """Puts a round on record as its stages do."""
    with workspace.lock():
        stages = ("annotate", "review", "pretrain", "finetune", "evaluate", "gate")
        workspace.begin_round(round, stages)
        if round:
            review = {"num_corrections": 12, "refiners": [{"name": "ann", "seconds": 300.0}]}
            workspace.set_stage(round, "review", "done", review)
        workspace.set_stage(round, "evaluate", "done", {"quality": {"anchor_token_f1": f1}})
        if gate:
            workspace.set_stage(round, "gate", "done", gate)


@pytest.fixture
def lou(workspace: Workspace) -> Refiner:
    return Refiner(create_app(workspace, home=lambda: home_of(workspace)), workspace, "lou", "lead")


def test_a_workspace_without_rounds_says_what_comes_next(lou: Refiner) -> None:
    page = lou.http.get("/home").text
    assert "No round was measured yet." in page
    assert "<code>flywheel round" in page


def test_rounds_stand_with_verdict_gain_figures_people_and_report(lou: Refiner, workspace: Workspace) -> None:
    difference = {"value": 0.2, "low": 0.11, "high": 0.29, "n": 9}
    _measured(workspace, 0, _F1)
    _measured(
        workspace,
        1,
        _BETTER,
        verdict="promoted",
        reason="better than <the base>",
        against=0,
        difference=difference,
        p_better=0.001,
        p_worse=1.0,
        level=0.025,
        look=1,
    )
    folder = workspace.report_folder(1)
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<title>the report</title>")
    page = lou.http.get("/home").text
    for words in (
        "Round 1: promoted",
        "+0.200</b> (+0.110 to +0.290, 95 % interval)",
        "Why: better than &lt;the base&gt;.",
        "12 corrections in 5 minutes of people&#39;s time",
        "token F1 with people, anchors: <b>0.600</b> (0.550 to 0.650), more is better",
        "▲ better than the base model<",
        'href="/home/1/report.html"',
    ):
        assert words in page or words.replace("&#39;", "'") in page, words
    answer = lou.http.get("/home/1/report.html")
    assert "the report" in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert lou.http.get("/home/0/report.html").status_code == 404
    assert lou.http.get("/home/1/config.yaml").status_code == 422, "nothing else of that folder"


def test_it_is_the_leads_alone(lou: Refiner, app: object, workspace: Workspace) -> None:
    elsewhere = Refiner(app, workspace, "lea", "lead")
    assert elsewhere.http.get("/home").status_code == 404, "a server that was not told of one has none"
    plain = Refiner(lou.http.app, workspace, "bob")
    assert plain.http.get("/home").status_code == 403
    assert plain.http.get("/home/1/report.html").status_code == 403
    link = invite(workspace, "lou", "lead")
    assert str(lou.http.get(f"/invite/{link}?to=home").url).endswith("/home")
    assert lou.http.get(f"/invite/{link}?to=//elsewhere").status_code == 422


@pytest.mark.slow
def test_one_process_opens_a_workspace_and_names_where(workspace: Workspace) -> None:
    with only_home(workspace.root) as note:
        note("http://127.0.0.1:8470/home")
        with (
            pytest.raises(UserError, match=r"is open already at http://127.0.0.1:8470/home \(pid \d+\). Go there"),
            only_home(workspace.root),
        ):
            pass
    with only_home(workspace.root):
        pass


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_by_the_command(workspace: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^flywheel open: 127.0.0.1:{port} can't be used .* with --port.$"):
            bound("127.0.0.1", port, "flywheel open")

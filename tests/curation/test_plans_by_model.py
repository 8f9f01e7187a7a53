"""A language model plans repairs: what it is told, what it may answer, what becomes of answers that are no plans."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest

from flywheel.core.config import template
from flywheel.core.errors import BorderError, UserError
from flywheel.core.types import Annotation, content_id
from flywheel.curation.repair import asking, described
from flywheel.curation.repair.asking import PlanModel, Unanswered
from flywheel.curation.repair.loop import Limits, Repaired, repair
from flywheel.curation.repair.measures import Measures, Norms
from flywheel.curation.repair.planners import Case, planner
from flywheel.curation.repair.planners.model import question, read, schema
from flywheel.curation.repair.repairing import check
from flywheel.ingest import ingest
from flywheel.sound import actions
from flywheel.sound.fit import Fit
from flywheel.store import Workspace
from tests.annotators.test_roles import text_model
from tests.curation.test_measuring import write
from tests.plugins import Command, Plugin
from tests.rendered import RATE_HZ, impacts, tones

Make = Callable[..., Workspace]
FIT = Fit(plain=0.1, shifted=0.8, offset_s=0.35, rival=0.3, sped=0.2, rate=1.0)
LIMITS = Limits()
NORMS = Norms(level_db=-25.0, floor_db=-60.0, peak_db=-6.0, floor_off_db=2.0, peak_off_db=3.0)
MEASURES = Measures(level_db=-26.0, floor_db=-61.0, peak_db=-7.0, flatness=0.4, gaps=0, gap_s=0.0, fit=FIT)
SHIFT = {"action": "shift", "parameters": {"seconds": -0.35}}


def reply(filter: Any = None, coordination: Any = None, reason: str = "late") -> str:
    return json.dumps({"reason": reason, "filter": filter, "coordination": coordination})


def looked_at(*replies: str, limits: Limits = LIMITS) -> tuple[Repaired, list[tuple[str, int]]]:
    """What the loop makes of a sound whose rewards are low, and what the model was asked."""
    left, asked = list(replies), list[tuple[str, int]]()

    def ask(told: str, form: str, in_vain: int) -> str:
        assert form == schema()
        asked.append((told, in_vain))
        return left.pop(0)

    sound = np.zeros(160, np.float32)
    case = Case(key="c", measures=MEASURES, norms=NORMS, seen="A ball falls.", heard="A thud,\n late.", ask=ask)
    _, found = repair(sound, RATE_HZ, case, planner("model"), lambda samples: {"a": 0.1}, vetoes={}, limits=limits)
    return found, asked


def test_the_model_is_told_of_both_texts_the_figures_and_all_actions_with_their_ranges() -> None:
    told = question(Case(key="c", measures=MEASURES, norms=NORMS, seen="A ball falls.", heard="A thud,\n late."), [])
    assert 'SEEN: "A ball falls."\nHEARD: "A thud, late."\n' in told
    assert '"fit_offset_s": 0.35' in told
    assert '"usual_level_db": -25.0' in told
    assert "- shift: moves the whole sound in time: later where positive, earlier where negative" in told
    assert "(seconds from -2 to 2 s, usually 0)" in told
    assert all(f"- {name}: " in told for name in actions.names())
    assert "TRIED" not in told
    # Nobody described it: nothing is made up.
    assert "SEEN" not in question(Case(key="c", measures=MEASURES, norms=NORMS), [])


def test_replies_are_held_to_one_action_of_each_family_in_its_ranges() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))
    form = jsonschema.Draft202012Validator(json.loads(schema()))
    wiener = {"action": "wiener", "parameters": {"smoothing": 0.95, "floor_db": -20.0}}
    for fits in (reply(), reply(wiener), reply(None, SHIFT), reply(wiener, SHIFT)):
        assert form.is_valid(json.loads(fits)), fits
    for breaks in (
        reply([wiener, wiener]),
        reply(SHIFT),
        reply({"action": "mute", "parameters": {}}),
        reply(None, {"action": "shift", "parameters": {"seconds": 9.0}}),
        '{"reason": "late", "filter": null}',
    ):
        assert not form.is_valid(json.loads(breaks)), breaks
    made = read(f"<think>It is late.</think>```json\n{reply(wiener, SHIFT)}\n```")
    assert [(step.action, step.parameters) for step in made.steps] == [
        ("wiener", wiener["parameters"]),
        ("shift", SHIFT["parameters"]),
    ]
    assert not read(reply())


NO_PLANS = {
    "prose": ("I would make it louder.", "not JSON"),
    "a list": ("[1]", "need an object"),
    "an unknown action": (reply({"action": "mute", "parameters": {}}), "unknown"),
    "a value out of range": (reply(None, {"action": "shift", "parameters": {"seconds": 9}}), "from -2 to 2 s"),
    "no number": (reply(None, {"action": "shift", "parameters": {"seconds": "early"}}), "need a number"),
    "an unknown parameter": (reply(None, {"action": "shift", "parameters": {"ms": 3}}), "unknown parameter 'ms'"),
    "two filters": (reply([{"action": "wiener"}, {"action": "wavelet"}]), "need one action"),
    "another family": (reply(SHIFT), "is no filter"),
    "edits": ('{"edits": [{"action": "wiener"}, {"action": "wavelet"}]}', "need an object"),
    "nothing": ("", "not JSON"),
}


@pytest.mark.parametrize("kind", NO_PLANS)
def test_what_is_no_plan_is_refused_in_a_line_told_to_the_model_and_tried_again(kind: str) -> None:
    bad, words = NO_PLANS[kind]
    with pytest.raises(UserError) as refused:
        read(bad)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    found, asked = looked_at(bad, reply(None, SHIFT), reply())
    assert [cycle.is_plan for cycle in found.trace] == [False, True]
    assert found.trace[0].refused == str(refused.value)
    assert [in_vain for _, in_vain in asked] == [0, 1, 0]
    assert json.dumps(str(refused.value), ensure_ascii=False) in asked[1][0]


def test_the_second_plan_differs_after_a_low_score_and_one_that_is_repeated_is_none() -> None:
    again = {"action": "shift", "parameters": {"seconds": -0.2}}
    found, asked = looked_at(reply(None, SHIFT), reply(None, SHIFT), reply(None, again), reply())
    assert [cycle.plan.key() for cycle in found.trace if cycle.is_plan] == [
        (("shift", (("seconds", -0.35),)),),
        (("shift", (("seconds", -0.2),)),),
    ]
    assert found.trace[1].refused == "planned again: late"
    # It was told what the first came to.
    assert '"a": 0.1, "refused": "a 0.10 to 0.10: need a rise of 0.03"' in asked[1][0]
    assert [in_vain for _, in_vain in asked] == [0, 0, 1, 0]
    assert (found.outcome, found.reason) == ("refused", "late")


def test_a_model_that_goes_round_in_a_circle_is_left_after_a_few_tries() -> None:
    found, asked = looked_at(*[reply(None, SHIFT)] * 9)
    assert len(asked) == 3
    assert [cycle.is_plan for cycle in found.trace] == [True, False, False]
    found, asked = looked_at(*["no"] * 9, limits=Limits(no_plans=9))
    assert len(asked) == LIMITS.cycles
    assert found.outcome == "left alone"


def test_without_a_model_it_makes_no_plan() -> None:
    with pytest.raises(UserError, match="there is no model to ask"):
        planner("model")(Case(key="c", measures=MEASURES, norms=NORMS), [])


#: Reads the figures as the rules do, and first says what is no plan of every second clip.
ENGINE = """
    import itertools, json, re
    from annotators.interface import Result

    class Engine:
        def generate(self, requests, sampling):
            for request in requests:
                assert request.clip is None and json.loads(sampling.schema)["required"]
                figures = json.loads(re.search("^FIGURES: (.+)$", request.prompt, re.M)[1])
                edit, warm = None, sampling.temperature > 0
                if "is none" in request.prompt:
                    assert warm
                if figures["fit_shifted"] - figures["fit_plain"] > 0.38 and "TRIED" not in request.prompt:
                    text = "it is late, I think"
                else:
                    done = '"coordination": [{"action": "shift"' in request.prompt
                    if figures["fit_shifted"] - figures["fit_plain"] > 0.38 and not done:
                        edit = {"action": "shift", "parameters": {"seconds": -figures["fit_offset_s"]}}
                    text = json.dumps({"reason": "by its figures", "filter": None, "coordination": edit})
                yield Result(key=request.key, text=text, token_ids=(1, 2), logprobs=(-0.1, -0.1),
                             tokens_in=5, finish="stop", seconds=0.01)
        def parts(self):
            return [self]
        def close(self):
            pass

    def scripted(**_):
        return Engine()

    scripted.needs_model = False

    class Dead(Engine):
        def generate(self, requests, sampling):
            from flywheel.core.errors import BorderError
            raise BorderError("the engine died")

    def dead(**_):
        return Dead()

    dead.needs_model = False

    tries = []

    def refused(**_):
        from flywheel.core.errors import UserError
        tries.append(1)
        raise UserError(f"asks for a key (401), try {len(tries)}")

    refused.needs_model = False

    class Failing(Engine):
        def generate(self, requests, sampling):
            for request in requests:
                text, finish = ("failed 4 times (500)", "error") if "fails" in request.prompt else ("{}", "stop")
                yield Result(key=request.key, text=text, token_ids=(), logprobs=(), tokens_in=0, finish=finish,
                             seconds=0.0)

    def failing(**_):
        return Failing()

    failing.needs_model = False
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of six clips, one of whose sounds is late."""
    folder = tmp_path_factory.mktemp("planned")
    (folder / "videos").mkdir()
    for seed in range(6):
        sound = tones(impacts(seed, 4.0), seed, length_s=4.0)
        moved = actions.build("shift", seconds=0.35)(sound, RATE_HZ) if seed == 2 else None
        write(folder / "videos" / f"{seed}.mp4", seed, sound=moved)
    Workspace.create(folder / "w", template())
    w = Workspace.open(folder / "w", ["corpus.near_duplicates=false"])
    with w.lock():
        ingest(w, [str(folder / "videos")])
    w.database.close()
    return folder


@pytest.fixture
def late(whole: Path, tmp_path: Path, make_workspace: Make) -> Make:
    """The same, one test's own, whose repairs a model plans."""
    shutil.copytree(whole / "w", tmp_path / "w")
    return lambda *options: make_workspace("corpus.near_duplicates=false", "repair.planner=model", *options)


@pytest.mark.slow
def test_the_command_asks_the_model_of_the_role_and_counts_what_is_no_plan(
    late: Make, plugin: Plugin, commandline: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plugin("flywheel.annotators.engines", "scripted = planning:scripted", ENGINE, package="a")
    plugin("flywheel.annotators.engines", "dead = planning2:dead", ENGINE, package="b")

    def run(*options: object) -> tuple[int, str, str]:
        sets = ("corpus.near_duplicates=false", "repair.planner=model", *options)
        words = [word for option in sets if "=" in str(option) for word in ("--set", option)]
        code = commandline("repair", "--config", tmp_path / "w", *words, *(o for o in options if "=" not in str(o)))
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, err = run()
    assert (code, out) == (2, "")
    assert err.strip() == "models.planner: is missing, and repair.planner asks for it. Name its folder and engine."
    # An engine that dies stops the run: no clip is at fault.
    code, out, err = run("models.planner={engine: dead}")
    assert code == 1
    assert "the engine died" in err
    w = late("models.planner={engine: scripted}")
    assert (w.count("sound_versions"), w.count("rejected")) == (0, 0)
    w.database.close()
    code, out, _ = run("models.planner={engine: scripted}", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["left_alone"], found["repaired"], found["refused"]) == (5, 1, 0)
    assert (found["actions"], found["no_plans"]) == ({"shift": 1}, 1)
    assert found["costs"]["calls"] >= 2
    assert found["costs"]["tokens_out"] == 2 * found["costs"]["calls"]
    w = late("models.planner={engine: scripted}")
    [mended] = w.sound_versions().filter(pl.col("outcome") == "repaired").iter_rows(named=True)
    trace = json.loads(mended["trace"])
    assert [cycle["is_plan"] for cycle in trace] == [False, True]
    assert mended["planner"] == "model"
    w.database.close()
    _, out, _ = run("--explain", mended["clip_id"], "models.planner={engine: scripted}")
    assert "no plan: plan: the reply is not JSON" in out
    # The same model is not asked again, another one is.
    assert json.loads(run("models.planner={engine: scripted}", "--json")[1])["looked_at"] == 0


@pytest.mark.slow
def test_a_real_model_that_knows_nothing_edits_nothing_and_nothing_is_lost(late: Make, tmp_path: Path) -> None:
    from flywheel.curation.repair.repairing import repair_clips
    from flywheel.store.clip_index import ClipIndex

    folder = text_model(tmp_path / "llm")
    w = late(f"models.planner.folder={folder}", "repair.no_plans=1")
    check(w)
    with w.lock():
        found = repair_clips(w, ClipIndex(w), round=1, limit=2)
    assert found.looked_at == 2
    assert found.costs["calls"] >= 1
    assert w.sound_versions()["outcome"].is_in(["left alone", "refused"]).all()


def test_the_newest_words_about_a_clip_are_shown(make_workspace: Make) -> None:
    w = make_workspace()
    rows = [(1, "seen", "old"), (3, "seen", "new"), (2, "heard:measure", "a bell"), (2, "heard", "of the edited sound")]
    for round, form, text in rows:
        kind, _, purpose = form.partition(":")
        annotation = Annotation(
            id=content_id(round, form, "c"),
            round=round,
            kind=kind,
            clip_id="c",
            generation_id="g",
            source="model",
            text=text,
            mean_logprob=0.0,
            purpose=purpose or "learn",  # type: ignore[arg-type]
        )
        with w.lock():
            w.add_annotations([annotation], round)
    told = described.described(w, ["c", "d"], 3)
    assert told == {"seen": {"c": "new"}, "heard": {"c": "a bell"}}


def test_threads_that_ask_meanwhile_are_answered_together(make_workspace: Make, plugin: Plugin) -> None:
    from concurrent.futures import ThreadPoolExecutor

    w = make_workspace("models.planner={engine: fake, options: {seconds_per_batch: 0.05}}")
    model = PlanModel(w, "planner")
    with ThreadPoolExecutor(8) as pool:
        words = list(pool.map(lambda n: model.asked_about(f"c{n}")(f"question {n}", "", 0), range(8)))
    assert len(set(words)) == 8
    assert model.costs()["calls"] == 8
    # The first alone, the others together: not one by one.
    assert model.costs()["engine_s"] < 0.05 * 4
    assert model.asked_about("c3")("question 3", "", 0) == words[3]
    assert model.asked_about("c3")("question 3", "", 1) != words[3]
    model.close()


def test_an_engine_that_fails_fails_all_that_wait(make_workspace: Make, plugin: Plugin) -> None:
    plugin("flywheel.annotators.engines", "dead = planning3:dead", ENGINE, package="c")
    model = PlanModel(make_workspace("models.planner={engine: dead}"), "planner")
    for _ in range(2):
        with pytest.raises(BorderError, match="the engine died"):
            model.asked_about("c")("question", "", 0)
    assert np.isclose(model.costs()["calls"], 0)


def test_an_engine_that_the_user_must_mend_is_no_reply(make_workspace: Make, plugin: Plugin) -> None:
    """Else each clip would be left alone for good, by a key that was forgotten."""
    plugin("flywheel.annotators.engines", "refused = planning4:refused", ENGINE, package="d")
    model = PlanModel(make_workspace("models.planner={engine: refused}"), "planner")
    case = Case(key="c", measures=MEASURES, norms=NORMS, ask=model.asked_about("c"))
    # Who asks after it is told the same, and nothing is started again.
    for _ in range(2):
        with pytest.raises(BorderError, match=r"asks for a key \(401\), try 1"):
            repair(np.zeros(160, np.float32), RATE_HZ, case, planner("model"), lambda _: {"a": 0.1}, vetoes={})


def test_what_an_engine_can_not_answer_is_no_plan_of_its_model_and_after_some_in_a_row_its_own_fault(
    make_workspace: Make, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin("flywheel.annotators.engines", "failing = planning5:failing", ENGINE, package="e")
    model = PlanModel(make_workspace("models.planner={engine: failing}"), "planner")
    case = Case(key="c", measures=MEASURES, norms=NORMS, ask=model.asked_about("c"))
    for words in ("fails", "fails", "good", "fails"):
        # A clip's own request may be at fault: it waits, and the others go on.
        with pytest.raises(Unanswered, match=r"4 times \(500\)") if words == "fails" else nullcontext():
            model.asked_about("c")(words, "", 0)
    with pytest.raises(Unanswered):
        repair(
            np.zeros(160, np.float32),
            RATE_HZ,
            replace(case, seen="it fails"),
            planner("model"),
            lambda _: {"a": 0.1},
            vetoes={},
        )
    # Three in a row, and what is asked of no clip is answered: these clips are at fault, and the run goes on.
    for _ in range(4):
        with pytest.raises(Unanswered):
            model.asked_about("c")("fails", "", 0)
    monkeypatch.setattr(asking, "_CANARY", "it fails")
    for words in ("fails", "fails", "fails", "good"):
        broken = pytest.raises(BorderError, match=r"the last \d+ questions were not answered .*No clip is at fault")
        with pytest.raises(Unanswered) if words == "fails" and model.unanswered < 2 else broken:
            model.asked_about("c")(words, "", 0)


@pytest.mark.slow
@pytest.mark.parametrize("locked", ["all", "chat", "refuses"])
def test_a_server_that_is_at_fault_stops_the_run_and_no_clip_is_done(late: Make, tmp_path: Path, locked: str) -> None:
    from flywheel.curation.repair.repairing import repair_clips
    from flywheel.store.clip_index import ClipIndex

    folder = text_model(tmp_path / "llm")

    class Locked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say(401 if locked == "all" else 200, {"data": [{"id": "base", "root": str(folder), "parent": None}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.say(400 if locked == "refuses" else 401, {"error": {"message": "no key"}})

        def say(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        w = late(f"models.planner={{engine: openai, folder: {folder}, servers: ['{url}']}}", "repair.enough=1")
        words = "the last 3 questions were not answered" if locked == "refuses" else r"asks for a key \(401\)"
        with w.lock(), pytest.raises(BorderError, match=words):
            repair_clips(w, ClipIndex(w), round=1)
        server.shutdown()
    assert (w.count("sound_versions"), w.count("rejected")) == (0, 0)

"""Describers and judge are asked where curation is in doubt: by the command, killed again and again, and as hints."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from annotators import prompt_file
from flywheel.core.config import template
from flywheel.core.errors import ProofFailed, UserError
from flywheel.core.types import REPEATED, SHUFFLED, Annotation, Cue, content_id
from flywheel.curation.evidence import measure_all
from flywheel.ingest import ingest
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
from flywheel.rounds.curation_files import draw, write_curation
from flywheel.rounds.curation_view import curated_view
from flywheel.rounds.judging import judge_in_doubt
from flywheel.rounds.publish import report_of
from flywheel.store import Workspace
from tests.chat_server import models, reply, serving
from tests.curation.test_curating import clip
from tests.curation.test_measuring import write
from tests.plugins import Command
from tests.rendered import impacts, tones

Make = Callable[..., Workspace]
COUNT, CALIBRATING, AGAIN = 16, 6, 3
#: Slow batches of two, committed by three: a pass takes about a second, and is killed at any place.
FAKE = "engine: fake, options: {obeys: true, batch_size: 2, seconds_per_batch: 0.03}"
ROLES = ("eyes", "ears", "judge")
SETTINGS = (
    *(f"models.{role}={{{FAKE}, price_per_million_out: 2.0}}" for role in ROLES),
    "annotate.commit_rows=3",
    "corpus.near_duplicates=false",
    "curate.enabled=true",
    "curate.judge=all",
    f"curate.calibration_clips={CALIBRATING}",
    f"curate.repeats={AGAIN}",
    "curate.policy=least",
    "curate.by=judge_contextual",
    "curate.value=3",
)
#: Forks twenty processes, one after the other, that are killed at some time or other; nothing of a workspace is open
#: when it forks.
KILLS = """
import os, random, signal, sys, time, traceback
from pathlib import Path
from flywheel.rounds import RoundContext
from flywheel.rounds.judging import judge_in_doubt
from flywheel.store import Workspace

root, settings, rng, ended = Path(sys.argv[1]), sys.argv[2:], random.Random(5), 0
for number in range(20):
    ready, begun = os.pipe()
    child = os.fork()
    if not child:
        try:
            context = RoundContext(Workspace.open(root, settings))
            with context.workspace.lock():
                _ = context.clips
                os.write(begun, b".")
                judge_in_doubt(context, 1)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(begun)
    os.read(ready, 1)
    time.sleep(rng.uniform(0.05, 0.9))
    os.kill(child, signal.SIGKILL)
    _, how = os.waitpid(child, 0)
    assert how in (0, signal.SIGKILL), how
    ended += how == 0
print(ended)
"""


@pytest.fixture
def measured(tmp_path: Path, make_workspace: Make) -> Workspace:
    """A workspace of clips whose sound and picture were measured."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(COUNT):
        wrong = tones(impacts(seed + 500, 4.0), seed, length_s=4.0) if seed % 3 == 0 else None
        write(folder / f"{seed:03d}.mp4", seed, sound=wrong)
    workspace = make_workspace(*SETTINGS)
    with workspace.lock():
        ingest(workspace, [str(folder)])
        measure_all(workspace, RoundContext(workspace).clips, 1)
    return workspace


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_or_doubled(
    measured: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    w = measured
    settings = ["tracking.enabled=false", *SETTINGS]
    done = subprocess.run([sys.executable, "-c", KILLS, str(w.root), *settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20, "most are killed in the middle"
    options = [word for setting in settings for word in ("--set", setting)]
    assert commandline("curate", "--config", w.root, *options, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert {"kept", "dropped", "unscored", "hours", "cost"} <= result.keys()
    ids = set(w.clips()["id"])
    for kind in ("seen", "heard"):
        texts = w.annotations(round=1, kind=kind)["clip_id"]
        assert set(texts) == ids, kind
        assert len(texts) == COUNT
    records, twins = w.records, w.twins()
    assert len(twins) == CALIBRATING
    own = records.read("judgements")
    assert own.filter(~pl.col("swapped"))["clip_id"].sort().to_list() == sorted(ids)
    assert own.filter("swapped")["clip_id"].sort().to_list() == sorted(twins)[:AGAIN]
    controls = records.read("control_judgements")
    for purpose, expected in ((SHUFFLED, sorted(twins)), (REPEATED, sorted(twins)[:AGAIN])):
        assert controls.filter(pl.col("purpose") == purpose)["clip_id"].sort().to_list() == expected
    assert (own["unscored"] == "").all()
    assert (controls["unscored"] == "").all()
    made = w.generations()
    assert made["id"].n_unique() == made.height == 3 * COUNT + CALIBRATING + 2 * AGAIN
    # What it cost, over all passes, also killed ones; a kill between a commit and its note forgets three texts.
    cost, judged = result["cost"], result["judged"]
    assert made.height / 2 < cost["calls"] <= made.height
    assert cost["tokens_per_clip"] == pytest.approx(cost["tokens"] / COUNT)
    assert cost["money"] == pytest.approx(2e-6 * sum(of["tokens_out"] for of in judged["costs"].values()), rel=1e-6)
    assert judged["calls_saved"] == 0.0
    assert judged["order"]["n"] == judged["repeat"]["n"] == AGAIN
    assert judged["hearing"] is None or judged["hearing"]["ears"] == "hears"
    assert w.judgements()["p_match"].null_count() in (0, COUNT)
    # Clips to look at and hear, on the report's page.
    context = RoundContext(Workspace.open(w.root, settings))
    context.workspace.begin_round(1, context.config.stages)
    context.workspace.set_stage(1, "curate", "done", result)
    view = curated_view(context, report_of(context, 1))
    assert view is not None
    shown = [one for some in view.examples.values() for one in some]
    assert len(shown) >= 4
    assert all(base64.b64decode(one.video)[4:8] == b"ftyp" and not one.error for one in shown)
    files = context.workspace.root / "reports"
    for _ in range(2):
        write_curation(view, files)
        names = sorted(file.name for file in (files / "curation").iterdir())
        assert names[0] == "charts.png"
        assert len(names) == 1 + len(shown)
    assert all((files / "curation" / name).read_bytes()[4:8] == b"ftyp" for name in names[1:])
    assert len(draw(view).axes) == len(view.criteria) + bool(view.bars) + bool(view.thresholds) + bool(view.reliability)
    assert {sum(bar.kept + bar.dropped for bar in bars) for bars in view.criteria.values()} == {COUNT}
    write_curation(None, files)
    assert not (files / "curation").exists(), "nothing stays of a round whose clips are not curated any more"
    assert dict(view.stability).keys() >= {"texts swapped: same clips kept", "asked again: same clips kept"}
    # Once more: nothing is asked, nothing is added.
    assert commandline("curate", "--config", w.root, *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"] == result["run"]
    assert w.generations().height == made.height
    assert records.count("control_judgements") == controls.height


@pytest.mark.slow
def test_deaf_ears_end_the_run_before_anything_is_kept(make_workspace: Make, tmp_path: Path) -> None:
    """A server that says the same whatever it hears: one line, no text, and no eyes asked."""
    folder, asked, ears = tmp_path / "videos", list[Any](), bundled_model("bundled-ears")
    folder.mkdir()
    for seed in range(3):
        write(folder / f"{seed}.mp4", seed)

    def answers(path: str, _: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        if path.endswith("models"):
            return 200, {}, models(ears)
        asked.append(body)
        heard = {"speech": "", "environment": "a room", "timbre": "", "mood": "", "events": []}
        return 200, {}, reply(json.dumps(heard))

    with serving(answers) as url:
        server = f"models.ears={{engine: openai, servers: ['{url}'], folder: bundled-ears}}"
        others = [f"models.{role}={{{FAKE}}}" for role in ("eyes", "judge")]
        w = make_workspace("corpus.test_share=0", *others, server, "curate.judge=all")
        with w.lock():
            ingest(w, [str(folder)])
            with pytest.raises(ProofFailed, match=r"ears .*No text was kept"):
                judge_in_doubt(RoundContext(w), 1)
    assert asked
    assert w.count("annotations") == w.count("generations") == w.count("judgements") == 0


def test_captions_are_shown_what_models_saw_and_heard_where_their_prompt_asks(
    make_workspace: Make, tmp_path: Path
) -> None:
    """Read from the tasks of a pass; a prompt without such hints asks byte for byte what it asked before."""
    clips = [replace(clip(n), cues=(Cue(start_s=1.0, end_s=2.0, text="Now!"),), transcript="Now!") for n in (3, 4)]
    written = yaml.safe_load(prompt_file("caption", Path()).read_text())
    lines = {"seen": "Seen: {text}", "heard": "Heard: {text}", "timed_transcript": "Cues: {text}"}
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**written, "hints": {**written["hints"], **lines}}))
    w = make_workspace()
    with w.lock():
        w.add_clips(clips)
    old, new = RoundContext(w), RoundContext(make_workspace(f"annotate.prompt={own}"))

    def prompts(context: RoundContext) -> dict[str, str]:
        return {task.clip_id: task.prompt for task in context.tasks(clips, context.prompt, 1)}

    before, bare = prompts(old), prompts(new)
    assert "Cues: [1.0-2.0] Now!" in bare[clips[0].id]
    payload = {"scene": "a yard", "objects": "", "layout": "", "writing": "", "mood": ""}
    event = {"start_s": 0.5, "end_s": 1.0, "text": "a ball drops"}
    texts = {
        "seen": {**payload, "events": [event]},
        "heard": {"speech": "", "environment": "", "timbre": "", "mood": "", "events": [{**event, "text": "a thud"}]},
    }
    for kind, said in texts.items():
        text = Annotation(
            id=content_id(1, kind, clips[0].id),
            round=1,
            kind=kind,
            clip_id=clips[0].id,
            generation_id="g",
            source="model",
            text="A ball.",
            payload=json.dumps(said),
            mean_logprob=0.0,
        )
        w.add_annotations([text], 1)
    assert prompts(old) == before
    after = prompts(new)
    assert "Seen: events: [0.5-1.0] a ball drops. scene: a yard" in after[clips[0].id]
    assert "Heard: events: [0.5-1.0] a thud" in after[clips[0].id]
    assert after[clips[1].id] == bare[clips[1].id], "nothing of a clip without such texts"
    assert {task.prompt for task in new.tasks(clips, new.prompt, 2)} == set(bare.values()), "nor of another round's"
    # What a training is shown is the same.
    shown = dict(new.with_evidence(clips, 1))
    assert new.prompt.render(shown[clips[0]]) == after[clips[0].id]


def test_a_judge_that_is_not_asked_needs_no_roles_and_one_that_is_needs_all(make_workspace: Make) -> None:
    w = make_workspace()
    assert RoundContext(w).curation_prompts == []
    with pytest.raises(UserError, match=r"models\.ears: is missing, and prompt heard asks for it"):
        RoundContext(make_workspace("curate.judge=doubt", "models.eyes.engine=fake", "models.judge.engine=fake"))
    with pytest.raises(UserError, match=r"curate: judge: doubt is about P\(match\)|set by: p_match"):
        make_workspace("curate.judge=doubt", "curate.policy=least", "curate.by=level_db")
    with pytest.raises(UserError, match=r"index_below .*set judge: doubt"):
        make_workspace("curate.index_below=0")
    with pytest.raises(UserError, match=r"curate\.prompts: 'caption' asks for caption"):
        RoundContext(make_workspace("curate.judge=all", "curate.prompts=[caption, heard, judge]"))
    with pytest.raises(UserError, match=r"models\.guest: no prompt .* curate\.judge is never"):
        RoundContext(make_workspace("models.guest.engine=fake"))


def test_the_playground_with_sound_has_all_its_roles_asked(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "w", template("playground-av"))
    context = RoundContext(Workspace.open(tmp_path / "w", ["tracking.enabled=false"]))
    assert [prompt.kind for prompt in context.curation_prompts] == ["seen", "heard", "judgement"]
    assert {context.config.models[prompt.role].folder for prompt in context.curation_prompts} == {
        "bundled-eyes",
        "bundled-ears",
        "bundled-judge",
    }

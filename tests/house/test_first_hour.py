"""The first hour of a new user, by numbers of its stumbles: every command says what comes next, or what to fix."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
import yaml

from annotators import prompt_file
from flywheel.cli import _COMMANDS
from flywheel.core.config import PRESETS, Config, load_config, parse_config, short_template
from flywheel.core.config.explain import explain, keys
from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Correction, content_id
from flywheel.doctor.workspace import server
from flywheel.media.encode import Quality, write_video
from flywheel.playground.drawn import TOY_NOTICE
from flywheel.playground.tiny import bundled_model
from flywheel.rounds.outlook import impossible, outlook_of
from flywheel.rounds.toy import toy_notice
from flywheel.status import status_of
from flywheel.store import Workspace
from flywheel.store.browse import ClipQuery, find_clips
from flywheel.store.writing import reject
from tests.chat_server import models, serving
from tests.plugins import Command

Said = pytest.CaptureFixture[str]


def test_init_writes_what_people_change_and_says_the_next_commands(
    tmp_path: Path, commandline: Command, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commandline("init", "w") == 0
    said = capsys.readouterr()
    assert said.out == "w/flywheel.yaml\n"
    assert TOY_NOTICE in said.err
    lines = said.err.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("Next: "))
    assert [line.removeprefix("Next:").strip() for line in lines[start:]] == [
        "cd w",
        "flywheel doctor",
        "flywheel ingest /path/to/videos",
        "flywheel round --until annotate",
    ]
    text = (tmp_path / "w" / "flywheel.yaml").read_text()
    assert "split_by: none  # none | scene | length: how a video becomes clips" in text
    assert len([line for line in text.splitlines() if line.startswith("  ")]) < 40, "short: some 160 keys there are"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_short_file_is_the_preset(preset: str) -> None:
    assert parse_config(yaml.safe_load(short_template(preset))) == Config.model_validate(PRESETS[preset])


def test_a_server_needs_no_more_than_its_address(
    tmp_path: Path, commandline: Command, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is asked of it; the key comes from the environment and stands nowhere."""
    monkeypatch.setenv("MY_KEY", "hush-hush-key")

    def answers(path: str, headers: dict[str, str], _: object) -> tuple[int, dict[str, str], object]:
        right = headers.get("authorization") == "Bearer hush-hush-key" or headers.get("Authorization") == (
            "Bearer hush-hush-key"
        )
        return (200, {}, models(bundled_model())) if right else (401, {}, {"error": {"message": "no hush-hush-key"}})

    with serving(answers) as url:
        command = ("init", tmp_path / "w", "--preset", "server", "--url", url, "--api-key-env")
        assert commandline(*command, "MY_KEY") == 0
        main = load_config(tmp_path / "w" / "flywheel.yaml").main
        assert (main.engine, main.servers, main.folder) == ("openai", (url,), str(bundled_model()))
        assert server(url, "MY_KEY", main.folder, main.folder).state == "ok"
        assert "not /m. Set models.main.folder to what it serves" in server(url, "MY_KEY", "/m", "/m").says
        monkeypatch.setenv("MY_KEY", "another-key")
        refused = server(url, "MY_KEY", main.folder, main.folder)
        assert str(refused) == f"fail server: {url}: does not take the key in MY_KEY (401). Put the right one there."
        monkeypatch.delenv("MY_KEY")
        assert "the variable MY_KEY is not set." in server(url, "MY_KEY", main.folder, main.folder).says
    assert commandline("init", tmp_path / "x", "--preset", "server", "--url", url, "--api-key-env", "MY_KEY") == 0
    assert "the variable MY_KEY is not set" in capsys.readouterr().err
    assert not any(b"hush-hush-key" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "server"), "--preset server: also say --url"),
        (("--api-key-env", "KEY"), "Say --url too"),
        (("--url", "http://me:secret-word@host"), "--url http://me:***@host: holds a key or password"),
        (("--url", "host:1", "--api-key-env", "sk-1234"), "must be the name of a variable"),
        (("--url", "ftp://host"), "is no address of a server"),
    ],
)
def test_what_init_refuses_is_one_line(
    options: tuple[str, ...], message: str, tmp_path: Path, commandline: Command, capsys: Said
) -> None:
    assert commandline("init", tmp_path / "w", *options) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "w").exists()


def test_a_hub_id_without_its_model_says_how_to_get_it(
    tmp_path: Path, commandline: Command, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "flywheel.yaml").write_text("models: {main: {folder: some-people/no-such-model}}\n")
    assert commandline("annotate", "--config", tmp_path) == 2
    err = capsys.readouterr().err
    assert "flywheel download, or hf download some-people/no-such-model" in err
    assert commandline("download", "--config", tmp_path) == 2
    err = capsys.readouterr().err.strip()
    assert "HF_HUB_OFFLINE is set" in err
    assert "hf download some-people/no-such-model --local-dir FOLDER" in err
    assert len(err.splitlines()) == 1
    shutil.copytree(bundled_model(), tmp_path / "some-people" / "no-such-model")
    assert commandline("download", "--config", tmp_path) == 0
    assert capsys.readouterr().out == "all models that the configuration names are here\n"


def test_explain_knows_every_key_and_the_nearest_of_others() -> None:
    for key in keys():
        assert explain(key)[0].key == key
    [found] = explain("corpus.model", parse_config({"models": {"main": {"folder": "/m"}}}))
    assert (found.key, found.default, found.here) == ("models.main.folder", "bundled", "/m")
    assert "takes    a number above 0 and below 0.5" in str(explain("gate.alpha")[0])
    assert "takes    none, scene, length" in str(explain("corpus.split_by")[0])
    assert len(explain("gate")) == len(Config().gate.model_dump())
    for wrong, meant in (("gate.alfa", "gate.alpha"), ("alpha", "gate.alpha"), ("corpus.splitby", "corpus.split_by")):
        with pytest.raises(UserError, match=f"Did you mean {meant}"):
            explain(wrong)


@pytest.fixture
def own_video(tmp_path: Path) -> Path:
    """A video of a size that the playground never has."""
    file = tmp_path / "own.mp4"
    pictures = (np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 200, 20))
    write_video(file, pictures, size=(64, 64), fps=10, quality=Quality(crf=30, preset="ultrafast"), sound=None)
    return file


def test_the_demo_model_is_told_of_on_videos_that_are_not_its_own(
    ingested: Workspace, make_workspace: Callable[..., Workspace], own_video: Path, commandline: Command
) -> None:
    assert toy_notice(ingested) == ""
    assert commandline("ingest", own_video, "--config", ingested.root) == 0
    assert toy_notice(ingested) == TOY_NOTICE
    assert toy_notice(make_workspace("models.main.engine=fake")) == ""


def listed(commandline: Command, capsys: Said, *arguments: object) -> dict[str, Any]:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert commandline(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def written(w: Workspace, texts: Mapping[str, str], round: int = 1) -> None:
    """Captions of a round, by clip id."""
    w.add_annotations(
        [
            Annotation(
                id=content_id(round, "caption", clip_id),
                round=round,
                kind="caption",
                clip_id=clip_id,
                generation_id="",
                source="model",
                text=text,
                mean_logprob=-0.5,
            )
            for clip_id, text in texts.items()
        ],
        round=round,
    )


@pytest.mark.slow
def test_clips_are_listed_and_found(
    ingested: Workspace, commandline: Command, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By words of captions and names, split, folder, round and failure, a page at a time."""
    ids = ingested.clips()["id"].to_list()
    written(ingested, {ids[0]: "An old text."})
    written(ingested, {ids[0]: "A red CAR turns.", ids[1]: "A red ball.", ids[2]: "Two cars"}, round=2)

    def found(**query: Any) -> list[str]:
        return [clip.id for clip in find_clips(ingested, ClipQuery(**query)).clips]

    assert found() == ids
    assert (found(limit=2), found(limit=2, offset=2)) == (ids[:2], ids[2:4])
    assert [find_clips(ingested, ClipQuery(limit=limit)).more for limit in (5, 6)] == [True, False]
    assert found(search="red car") == [ids[0]]
    assert found(search="CAR") == [ids[0], ids[2]]
    assert found(search="old text") == [], "of the newest round"
    assert found(round=1) == [ids[0]]
    one = ingested.clips().to_dicts()[3]
    assert one["id"] in found(search=Path(one["uri"]).name)
    assert set(found(split=one["split"])) == set(ingested.clips(one["split"])["id"])
    of_its_split = [clip_id for clip_id in ids[:2] if clip_id in found(split=one["split"])]
    assert found(search="red", split=one["split"]) == of_its_split
    assert found(source="/nowhere/") == []
    assert found(rejected=True) == []
    ingested.add_rejected(round=2, stage="annotate", uri="x", clip_id=ids[4], reason="a loop")
    assert (found(rejected=True), found(rejected=True, search="red")) == ([ids[4]], [])
    here = ("clips", "--config", ingested.root)
    [clip] = listed(commandline, capsys, *here, "--search", "red car")["clips"]
    assert {"id", "name", "uri", "start_s", "end_s", "split", "texts"} <= set(clip)
    assert [(text["round"], text["text"]) for text in clip["texts"]] == [(2, "A red CAR turns.")]
    # As of a million texts, which are looked up by their keys.
    monkeypatch.setattr("flywheel.store.browse._FEW_TEXTS", 0)
    assert listed(commandline, capsys, *here, "--search", "red car")["clips"] == [clip]
    assert commandline(*here, "--search", "red car") == 0
    said = capsys.readouterr()
    assert "round 2 caption: A red CAR turns." in said.out
    assert f"Next: flywheel show {ids[0][:12]} --config {ingested.root}" in said.err
    assert commandline(*here, "--split", "tset") == 2
    assert "There are train, test, anchor." in capsys.readouterr().err


@pytest.mark.slow
def test_what_failed_is_listed_tried_again_and_closed(
    ingested: Workspace, tmp_path: Path, own_video: Path, commandline: Command, capsys: Said
) -> None:
    broken, mended = tmp_path / "videos" / "broken.mp4", tmp_path / "videos" / "mended.mp4"
    broken.parent.mkdir()
    for file in (broken, mended):
        file.write_bytes(b"no video " + file.name.encode())
    here = ("--config", ingested.root)
    assert commandline("ingest", broken.parent, *here) == 1
    found = listed(commandline, capsys, "rejects", *here)
    assert (found["open"], found["by_stage"]) == (2, {"ingest": 2})
    assert {row["uri"] for row in found["rows"]} == {str(broken), str(mended)}
    assert commandline("rejects", *here) == 0
    assert f"ingest: {broken}: not a readable video" in capsys.readouterr().out
    shutil.copy(own_video, mended)
    assert listed(commandline, capsys, "rejects", "--retry", *here) == {"tried": 2, "open": 1, "left": []}
    assert [row["uri"] for row in listed(commandline, capsys, "rejects", *here)["rows"]] == [str(broken)]
    assert commandline("rejects", "--retry", *here) == 1, "nothing of it succeeded"
    assert commandline("rejects", "--stage", "annotate", *here) == 2
    assert "Open rejects are of: ingest." in capsys.readouterr().err
    assert listed(commandline, capsys, "rejects", "--dismiss", "known", *here) == {"dismissed": 1}
    assert listed(commandline, capsys, "rejects", *here)["open"] == 0
    assert listed(commandline, capsys, "status", *here)["rejects"] == 0
    assert ingested.records.read("dismissals")["reason"].to_list() == ["known"]
    assert ingested.rejected().filter(pl.col("stage") == "ingest").height == 2, "they stay on record"


@pytest.mark.slow
def test_a_dry_ingest_says_what_would_be_and_writes_nothing(
    ingested: Workspace, tmp_path: Path, own_video: Path, corpus: Path, commandline: Command, capsys: Said
) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(own_video, tmp_path / "more" / "a.mp4")
    shutil.copy(own_video, tmp_path / "more" / "the_same.mp4")
    (tmp_path / "more" / "broken.mp4").write_bytes(b"no video")
    with tarfile.open(tmp_path / "more.tar", "w") as tar:
        tar.add(next((corpus / "corpus").glob("*.mp4")), "000.mp4")
    sources = (tmp_path / "more", tmp_path / "more.tar", ingested.clips()["uri"][0])

    def state() -> object:
        files = [str(file.relative_to(ingested.root)) for file in ingested.root.rglob("*") if file.is_file()]
        return ingested.stamp(), {file for file in files if "flywheel.db" not in file}, ingested.videos.count()

    before = state()
    found = listed(commandline, capsys, "ingest", "--dry-run", *sources, "--config", ingested.root)
    assert (found["known"], found["rejected"]) == (2 + (found["clips"] == 1), 1)
    assert "broken.mp4: not a readable video" in found["first_rejected"][0]
    assert state() == before
    assert commandline("ingest", *sources, "--config", ingested.root) == 0
    assert ingested.count("clips") == 6 + found["clips"], "as was said"


@pytest.mark.slow
def test_a_wrong_cut_is_undone_before_the_first_round(
    ingested: Workspace, tmp_path: Path, commandline: Command, capsys: Said
) -> None:
    """A video that was one clip becomes several, on its side; what a model wrote of is not thrown away."""
    (tmp_path / "own").mkdir()
    minute = (np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 126, 2))
    write_video(
        tmp_path / "own" / "a.mp4",
        minute,
        size=(64, 64),
        fps=1,
        quality=Quality(crf=30, preset="ultrafast"),
        sound=None,
    )
    here = ("ingest", tmp_path / "own", "--config", ingested.root, "--json")
    assert commandline(*here) == 0
    [note] = json.loads(capsys.readouterr().out)["notes"]
    assert "a clip of over 60 s, of which the model sees 8 frames" in note
    assert "--recut" in note
    [whole] = ingested.clips_named("a.mp4")["id"]
    side = ingested.clips_by_id([whole])["split"][0]
    by_length = ("--set", "corpus.split_by=length", "--set", "corpus.clip_len_s=40")
    capsys.readouterr()
    assert commandline(*here, *by_length) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 0, "it is known"
    assert commandline(*here, *by_length, "--recut") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["clips"] == 2
    assert "1 clips of these files are forgotten" in said.err
    parts = ingested.clips_by_id(ingested.clips_named("a.mp4")["id"])
    assert (parts.height, set(parts["split"]), whole in set(parts["id"])) == (2, {side}, False)
    assert ingested.count("clips") == 6 + 2, "others stay"
    assert ingested.taken_down() == {}
    ingested.add_corrections(
        [
            Correction(
                id="c",
                annotation_id="a",
                clip_id=parts["id"][0],
                verdict="accept",
                text="",
                refiner="Ann",
                at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        ]
    )
    assert commandline(*here, "--recut") == 2
    assert "people have corrected some, which would be lost" in capsys.readouterr().err
    assert ingested.count("clips") == 8


@pytest.mark.slow
def test_prompts_are_listed_shown_and_copied(tmp_path: Path, commandline: Command, capsys: Said) -> None:
    Workspace.create(tmp_path, short_template())
    here = ("--config", tmp_path)
    names = {line["name"]: line["kind"] for line in listed(commandline, capsys, "prompts", "list", *here)}
    assert {"caption", "dense_caption", "qa", "tags"} <= set(names)
    assert commandline("prompts", "copy", "caption", tmp_path / "mine.yaml", *here) == 0
    assert commandline("prompts", "copy", "caption", tmp_path / "mine.yaml", *here) == 2
    assert "exists already" in capsys.readouterr().err
    names = {line["name"]: line["kind"] for line in listed(commandline, capsys, "prompts", "list", *here)}
    assert names["mine.yaml"] == "caption"
    assert commandline("prompts", "show", "mine.yaml", *here) == 0
    assert capsys.readouterr().out == prompt_file("caption", tmp_path).read_text()
    assert commandline("prompts", "show", "captions", *here) == 2
    assert "captions: no such prompt. There are answers, caption, " in capsys.readouterr().err


def test_impossible_demands_are_said_at_once(
    ingested: Workspace, commandline: Command, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six clips, none or one of them an anchor, by ingest again, by status, and by the round before it begins."""
    root = ingested.root
    anchors = ingested.clips("anchor")["content_hash"].n_unique()
    too_few = f"8 anchor videos (gate.min_anchors), and the corpus has {anchors}: add some {(8 - anchors) * 10} videos"
    file = root / "flywheel.yaml"
    file.write_text(file.read_text().replace("wait_for: 0", "wait_for: 500"))
    asked = ingested.clips().filter(pl.col("split") != "test").height
    too_many = f"review.wait_for: 500 corrections can't come from {asked} captions."
    assert commandline("ingest", ingested.clips()["uri"][0], "--config", root) == 0
    err = capsys.readouterr().err
    assert too_few in err
    assert too_many in err
    assert "Next: flywheel round --until annotate" in err
    found = listed(commandline, capsys, "status", "--config", root)
    assert found["gate"] == {"have": 0, "need": 8, "possible": anchors}
    assert (found["queue"], found["rejects"], found["rounds"]) == (0, 0, [])
    assert found["next"] == ["flywheel round --until annotate"]
    said = found["impossible"]
    assert [too_few in said[0], "test split" in said[1], too_many in said[2]] == [True, True, True]
    [tested] = impossible(Workspace.open(root, ["gate.untested=promote", "review.wait_for=0"]))
    videos = ingested.clips("test")["content_hash"].n_unique()
    assert f"has {videos} video" in tested if videos else "No video is in the test split" in tested
    assert f"add some {(8 - videos) * 5} videos, or raise corpus.test_share" in tested


def test_status_tells_verdicts_and_what_they_lead_to(ingested: Workspace) -> None:
    """The last rounds in sentences, the model in use, and the commands that come next."""
    ids = ingested.clips().filter(pl.col("split") != "test")["id"].to_list()
    written(ingested, dict.fromkeys(ids, "A ball."))
    for stage in ("annotate", "review", "pretrain", "finetune", "evaluate"):
        ingested.set_stage(1, stage, "done", {"annotations": len(ids)} if stage == "annotate" else {})
    difference = {"value": 0.02, "low": -0.01, "high": 0.05, "n": 9}
    record = {"verdict": "undecided", "reason": "not shown to be better", "against": 0, "difference": difference}
    ingested.set_stage(1, "gate", "done", record)
    ingested.begin_round(1, ("annotate", "review", "pretrain", "finetune", "evaluate", "gate"))
    outlook = status_of(ingested).outlook
    assert outlook is not None
    [first] = outlook.to_json()["rounds"]
    assert (first["verdict"], first["in_use"], first["difference"]["low"]) == ("undecided", False, -0.01)
    assert str(outlook.rounds[0]) == "round 1: undecided, against the base model: not shown to be better"
    assert (outlook.queue, outlook.captions) == (len(ids), len(ids))
    assert outlook.next[-1] == "flywheel round --until annotate"
    ingested.promote(1, "forced")
    assert "round 1: undecided, in use" in str(status_of(ingested))
    assert outlook_of(ingested).next[0] == "flywheel export --out DATASET"


def test_where_every_text_failed_why_comes_first(ingested: Workspace) -> None:
    clip = ingested.clips().row(0, named=True)
    ingested.begin_round(1, ("annotate", "review", "gate"))
    ingested.set_stage(1, "annotate", "done", {})
    ingested.add_rejects([reject(1, "annotate", clip["uri"], clip["id"], "no text")], 1)
    assert outlook_of(ingested).next == ("flywheel rejects  # what failed, and why", "flywheel round")
    written(ingested, {ingested.clips()["id"][1]: "A ball."})
    assert outlook_of(ingested).next[-1] == "flywheel rejects  # what failed, and why"


@pytest.mark.slow
def test_captions_of_own_clips_are_four_commands_away(real_clips: Path, tmp_path: Path) -> None:
    """By a real architecture from a local folder; a link for the page is the fifth, and the page the sixth."""
    shutil.copytree(bundled_model(), tmp_path / "model")
    videos = tmp_path / "videos"
    videos.mkdir()
    for file in sorted(real_clips.glob("*.mp4"))[:2]:
        shutil.copy(file, videos)

    def run(*arguments: object, folder: str = "w") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flywheel.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / folder, check=False)
        assert done.returncode == 0, done.stderr
        return done

    run("init", "w", "--model", tmp_path / "model", folder=".")
    assert "Next: flywheel round --until annotate" in run("ingest", videos).stderr
    run("round", "--until", "annotate")
    found = json.loads(run("clips", "--json").stdout)["clips"]
    assert len(found) == 2
    written = [text["text"] for clip in found for text in clip["texts"] if text["source"] == "model"]
    assert written
    assert all(written)
    shown = run("show", Path(found[0]["uri"]).name).stdout
    assert found[0]["id"] in shown
    replies = json.loads(run("prompts", "try", "caption", "--clips", "1", "--json").stdout)
    assert [bool(reply["reply"]) for reply in replies] == [True]
    assert "/invite/" in run("invite", "--name", "Ann").stdout
    # The browser of this test writes down what it is to open.
    opened = tmp_path / "opened"
    (tmp_path / "browser").write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    (tmp_path / "browser").chmod(0o755)
    page = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "open", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path / "w",
        env={**os.environ, "BROWSER": str(tmp_path / "browser"), "LOGNAME": "Bob"},
    )
    try:
        assert page.stdout is not None
        assert "/home is the home page of w. " in page.stdout.readline()
        link = page.stdout.readline().strip()
        answer = httpx.get(link, follow_redirects=True)
        assert (answer.status_code, "What comes next" in answer.text) == (200, True)
        for _ in range(600):
            if opened.exists() and opened.read_text():
                break
            time.sleep(0.1)
        assert opened.read_text().strip() == link
    finally:
        page.terminate()
        page.wait(20)


#: Commands that show something, open a page until interrupted, or write a file of settings.
_SHOW = {"status", "show", "review", "dashboard", "demo", "uses", "template", "validate", "schema", "explain", "losses"}
_SHOW |= {"migrate", "list", "start", "write", "open", "formats", "retrieve"}


def test_every_command_that_ends_says_what_comes_next() -> None:
    """Itself, or through a function of its module."""

    def names(function: Any, depth: int = 2) -> set[str]:
        found = set(function.__code__.co_names)
        for name in found & set(function.__globals__) if depth else ():
            called = function.__globals__[name]
            if inspect.isfunction(called) and called.__module__ == function.__module__:
                found |= names(called, depth - 1)
        return found

    silent = {
        name
        for _, name, function in _COMMANDS
        if not {"say_next", "say_what_comes_next"} & names(inspect.unwrap(function))
    }
    assert silent == _SHOW


@pytest.mark.slow
def test_what_was_said_of_people_and_weights_names_the_next_command(
    ingested: Workspace, commandline: Command, capsys: Said
) -> None:
    here = ("--config", ingested.root)
    assert commandline("invite", "--name", "ann", *here) == 0
    for arguments in (("exclude", "ann", "--reason", "a test"), ("prune",), ("report",)):
        capsys.readouterr()
        assert commandline(*arguments, *here) == 0
        assert f"Next: flywheel round --until annotate --config {ingested.root}" in capsys.readouterr().err, arguments
    clip_id = ingested.clips()["id"][0]
    assert commandline("takedown", clip_id, "--reason", "they asked", "--dry-run", *here) == 0
    said = f"Next: flywheel takedown {clip_id} --reason 'they asked' --yes --config {ingested.root}"
    assert said in capsys.readouterr().err

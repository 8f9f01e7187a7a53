"""The first hour of a new user, by numbers of its stumbles: every command says what comes next, or what to fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from flywheel.core.config import PRESETS, Config, load_config, parse_config, short_template
from flywheel.core.config.explain import explain, keys
from flywheel.core.errors import UserError
from flywheel.doctor.workspace import server
from flywheel.media.encode import Quality, write_video
from flywheel.playground.drawn import TOY_NOTICE
from flywheel.playground.tiny import bundled_model
from flywheel.rounds.toy import toy_notice
from flywheel.store import Workspace
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

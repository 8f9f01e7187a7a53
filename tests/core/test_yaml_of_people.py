"""YAML as people write it: never another value without a word, and what is wrong said in their words with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flywheel.core.config import Config, load_config
from flywheel.core.errors import UserError
from flywheel.core.yaml_text import parsed_yaml
from flywheel.models.prompt import load_prompt
from noise_control import losses


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000),
        ("1e4", 10000),
        ("1.5e3", 1500.0),
        ("-2e-1", -0.2),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("0o10", 8),
        ("0x1F", 31),
        ("+7", 7),
        ("0", 0),
        ("0.10", 0.1),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31 10:00:00", "2024-01-31 10:00:00"),
        ("1.2.3", "1.2.3"),
        ("'010'", "010"),
        ("!!str 5", "5"),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("1e", "1e"),
        ("e3", "e3"),
        ("_1", "_1"),
        ("-", [None]),
        ("y", "y"),
        ("C:\\new\\x", "C:\\new\\x"),
    ],
)
def test_plain_words(text: str, value: Any) -> None:
    read = parsed_yaml(text)
    assert read == value
    assert type(read) is type(value)


def test_keys_are_texts_and_stand_once() -> None:
    assert parsed_yaml("yes: 1\n010: 2\nnull: 3\n1.0: 4\n2024-01-01: 5") == {
        "yes": 1,
        "010": 2,
        "null": 3,
        "1.0": 4,
        "2024-01-01": 5,
    }
    assert parsed_yaml("\ufeffa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}
    assert parsed_yaml("b: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}")["c"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3: 'a' stands there twice \(before in line 1\)"),
        ("{x: {a: 1, a: 1}}", "line 1: 'a' stands there twice"),
        ("a: 010", "line 1: 010 is a number with a leading zero.*Write 10, or '010' in quotes"),
        ("a:\n\tb: 1", "line 2: a tab"),
        ("a: 1\n---\nb: 1", "line 2: a second document"),
        ("a: !x 1", "line 1: the tag '!x' is not taken"),
        ("a: !!set {b, c}", "line 1: the tag 'set' is not taken"),
        ("? [a]\n: 1", "line 1: a key must be a text"),
        ("a: *b", "line 1: a '\\*' that names nothing"),
        ("a: b: c", "line 1: a ':' where no key can be"),
        ("a: 1\n  b: 2", "line 2: a ':' where no key can be"),
        ("a: 1\nb", "line 2: a line without ': '"),
        ("a: 'x", "line 1: a quote that is not closed"),
        ("a: [1, 2", "line 1: a bracket that is not closed"),
        ("a: @x", "line 1: a value that begins with a character such as '@'"),
        ('a: "C:\\x"', "line 1: a backslash in double quotes"),
    ],
)
def test_what_can_not_be_read_names_its_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as said:
        parsed_yaml(text)
    assert "\n" not in str(said.value)


def config(folder: Path, text: str | bytes, *overrides: str) -> Config:
    file = folder / "flywheel.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(file, list(overrides))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str) -> None:
    text = "corpus:\r\n  frames: 16\r\n  licence: ©\r\n"
    assert config(tmp_path, text.encode(encoding)).corpus.licence == "©"
    with pytest.raises(UserError, match=r"line 3: not in UTF-8\. Save the file as UTF-8"):
        config(tmp_path, text.encode("latin-1"))


def test_what_is_left_empty_is_left_out(tmp_path: Path) -> None:
    """Sections, lists and options whose lines are all comments."""
    text = "corpus:\nloss:\n  arguments:\nmodels:\n  main:\n    servers:\n    options:\n  judge:\nannotate:\n  also:\n"
    read = config(tmp_path, text)
    assert {**read.model_dump(), "models": None} == {**Config().model_dump(), "models": None}
    assert read.models["judge"] == read.main == Config().main
    assert config(tmp_path, "# nothing\n") == Config()


def test_one_text_is_a_list_of_one(tmp_path: Path) -> None:
    read = config(tmp_path, "models: {main: {servers: 'http://a:8000'}}\nannotate: {hints: transcript}")
    assert read.main.servers == ("http://a:8000",)
    assert read.annotate.hints == ("transcript",)
    with pytest.raises(UserError, match=r"annotate.hints: a list is expected: write \[transcript, sounds\] \(line 1\)"):
        config(tmp_path, "annotate: {hints: 'transcript, sounds'}")


def test_engine_options_are_taken_as_they_stand(tmp_path: Path) -> None:
    options = "{max_model_len: 1e4, limit_mm_per_prompt: {video: 1}, stop: [a, b], x: null, hf_overrides: {a: {b: .5}}}"
    read = config(tmp_path, f"models: {{main: {{options: {options}}}}}")
    assert read.main.options == parsed_yaml(options)
    assert read.main.options["max_model_len"] == 10000
    assert config(tmp_path, "", "models.main.options.limit_mm_per_prompt={video: 2}").main.options == {
        "limit_mm_per_prompt": {"video": 2}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus:\n  frames: yes", r"corpus\.frames: a whole number is expected, got yes \(line 2\)\."),
        ("corpus:\n  fps: true", r"corpus\.fps: a number is expected, got true \(line 2\)\."),
        ("corpus:\n  frames: 1.5", r"corpus\.frames: a whole number is expected, got 1\.5 \(line 2\)\."),
        ("corpus:\n  frames: 0", r"corpus\.frames: a number at least 1 is expected, got 0 \(line 2\)\."),
        ("corpus: {clip_len_s: 1:30}", r"a number is expected, got '1:30'. A clock time is written in seconds"),
        ("corpus: {clip_len_s: '2,5'}", r"a number is expected, got '2,5'. Decimals have a point"),
        ("corpus: {clip_len_s: .inf}", r"corpus\.clip_len_s: a finite number is expected, got \.inf"),
        ("corpus: {clip_len_s: inf}", r"corpus\.clip_len_s: a number is expected, got 'inf'"),
        ("corpus: {clip_len_s: '1_0'}", r"corpus\.clip_len_s: a number is expected, got '1_0'"),
        ("loss: {arguments: {gamma: .nan}}", r"loss\.arguments: nan is no finite number"),
        ("models: {main: {options: {a: [.inf]}}}", r"models\.main\.options: inf is no finite number"),
        ("corpus: {frames: }", r"corpus\.frames: a whole number is expected, got nothing"),
        ("corpus: {frames: ~}", r"corpus\.frames: a whole number is expected, got nothing"),
        ("annotate: {script: no}", r"annotate\.script: a text is expected, got no, which is true or false to YAML"),
        ("tracking: {experiment: 7}", r"a text is expected, got 7, which is a number to YAML. Put it in quotes"),
        ("corpus: {sound: maybe}", r"corpus\.sound: true or false is expected, got 'maybe'"),
        ("corpus: {links: allow}", r"corpus\.links: one of .*'follow' is expected, got 'allow'"),
        ("annotate: {by: best}", r"annotate\.by: 'champion' or a whole number is expected, got 'best'"),
        ("annotate: {hints: {a: b}}", r"annotate\.hints: a list such as \[a, b\] is expected"),
        ("annotate: {hints: [3]}", r"annotate\.hints\.0: a text is expected, got 3"),
        ("corpus: 3", r"corpus: a section of keys is expected, got 3"),
        ("corpus: [frames]", r"corpus: a section of keys is expected"),
        ("models: {main: {options: 3}}", r"models\.main\.options: a section of keys is expected, got 3"),
        ("loss: {arguments: {a: [1]}}", r"loss\.arguments\.a: .*expected, got"),
        ("corpus:\n  frame: 3", r"corpus\.frame: unknown key\. Did you mean 'frames'\? \(line 2\)"),
        ("annotate:\n  servers: 3", r"models\.main\.servers: a list .* got 3 \(line 2, as annotate\.servers\)"),
        ("- a", "must hold sections such as 'corpus:', got a list"),
    ],
)
def test_errors_are_in_the_users_words(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as said:
        config(tmp_path, text)
    assert not re.search(r"(?i)valid|input should|tuple|dict|pydantic|union|parse|NoneType", str(said.value))
    assert "\n" not in str(said.value)


def test_values_after_set_follow_the_same_rules(tmp_path: Path) -> None:
    read = config(
        tmp_path,
        "",
        "loss.arguments.gamma=1e-3",
        "corpus.sound=yes",
        "schedule.hook=#notify",
        "tracking.uri=",
        "corpus.licence=2024-01-01",
        "models.main.folder=C:\\x #1",
        "annotate.also=a.yaml",
    )
    assert read.loss.arguments["gamma"] == 0.001
    assert read.corpus.sound is True
    assert (read.schedule.hook, read.tracking.uri, read.corpus.licence) == ("#notify", "", "2024-01-01")
    assert read.main.folder == "C:\\x #1"
    assert read.annotate.also == ("a.yaml",)
    for override, message in (
        ("annotate.seed=010", "leading zero"),
        ("corpus.frames=yes", r"a whole number is expected.*\(given with --set\)"),
        ("corpus.frames=", r"a whole number is expected, got ''"),
        ("loss.arguments={a: 1, a: 2}", "stands there twice"),
        ("corpus.clip_len_s=.inf", "finite"),
    ):
        with pytest.raises(UserError, match=message):
            config(tmp_path, "corpus: {frames: 4}", override)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": "1e-3x"}, "gamma: a number is expected, got '1e-3x'"),
        ({"gamma": True}, "gamma: a number is expected, got True"),
        ({"gama": 1}, "Did you mean 'gamma'"),
    ],
)
def test_arguments_of_what_is_built_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        losses.build("tailr", **arguments)


def test_prompt_files_follow_the_same_rules(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    good = "name: p\nversion: 1\nkind: caption\ninstruction: Describe.\nhints: {}\n"
    file.write_bytes(good.encode("utf-16"))
    assert load_prompt(file).name == "p"
    for bad, message in (
        (good.replace("version: 1", "version: yes"), r"version: .*number.*\(line 2\)"),
        (good.replace("hints: {}", "hints: [a]"), r"hints: a section of keys is expected.*\(line 5\)"),
        (good + "name: q\n", "line 6: 'name' stands there twice"),
        (good.replace("instruction: Describe.\n", ""), "instruction: is missing"),
        ("", "the file: "),
    ):
        file.write_text(bad)
        with pytest.raises(UserError, match=message) as said:
            load_prompt(file)
        assert not re.search(r"(?i)input should|valid d|tuple", str(said.value))

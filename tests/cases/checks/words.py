"""Models' replies, YAML as people write it, and services: what is right for each case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotators import Result
from annotators.health import Unhealthy, check
from flywheel.core.config import load_config
from flywheel.core.errors import UserError
from flywheel.kinds import Reply
from noise_control import losses
from tests.cases.checks import case


def _judged(kind: str, text: str) -> Reply | Unhealthy:
    result = Result(key="k", text=text, token_ids=(1,), logprobs=(0.0,), tokens_in=1, finish="stop", seconds=0.0)
    try:
        return check(result, kind=kind, duration_s=10.0)
    except Unhealthy as fault:
        return fault


def _replies(folder: Path) -> list[dict[str, str]]:
    replies: list[dict[str, str]] = json.loads((folder / "input" / "replies.json").read_text())
    return replies


def _as_wanted(folder: Path) -> list[Unhealthy]:
    """Each reply as its ``want`` and ``as`` say; returns the refusals."""
    refused = []
    for reply in _replies(folder):
        judged = _judged(reply["kind"], reply["text"])
        if isinstance(judged, Unhealthy):
            assert "refused" in reply["want"], reply
            assert str(judged)
            refused.append(judged)
            continue
        assert "kept" in reply["want"], reply
        assert judged.text == reply.get("as", judged.text)
    return refused


@case("37-thoughts-in-texts")
def _thoughts(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert [fault.name for fault in _as_wanted(folder)] == ["thinking"]


@case("38-talk-around-the-caption")
def _talk(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert [fault.name for fault in _as_wanted(folder)] == ["tool call"]


@case("39-loops-without-spaces")
def _loops(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert {fault.name for fault in _as_wanted(folder)} == {"loop"}


@case("40-clock-times-in-cues")
def _clock_times(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    clock, comma, huge = [
        _judged("dense_caption", text) for text in json.loads((folder / "input/replies.json").read_text())
    ]
    assert isinstance(clock, Reply)
    assert json.loads(clock.payload)["cues"][0] == {"start_s": 1.0, "end_s": 3.0, "text": "a dog runs"}
    for judged in (comma, huge):
        assert isinstance(judged, Unhealthy)
        assert judged.name == "schema"


@case("41-broken-structures")
def _broken(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    assert len(_as_wanted(folder)) == len(_replies(folder))


def _config(folder: Path, name: str, *overrides: str) -> Any:
    return load_config(folder / "input" / name, list(overrides))


def _refused(
    folder: Path, name: str, line: int, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    command = request.getfixturevalue("commandline")
    assert command("config", "validate", "--config", folder / "input" / name) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert f"line {line}" in said


@case("48-numbers-of-yaml-1-1")
def _numbers(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    for config in (
        _config(folder, "sci.yaml"),
        _config(folder, "yes.yaml", "corpus.frames=8", "loss.arguments.gamma=1e-3"),
    ):
        assert config.loss.arguments == {"gamma": 0.001}
    losses.build("tailr", **config.loss.arguments)
    capsys = request.getfixturevalue("capsys")
    for name in ("yes.yaml", "oct.yaml", "sexa.yaml"):
        _refused(folder, name, 2, request, capsys)


@case("49-engine-options-that-are-objects")
def _options(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    options = _config(folder, "opts.yaml").main.options
    assert options == {"max_model_len": 10000, "limit_mm_per_prompt": {"video": 1}}
    assert isinstance(options["max_model_len"], int)
    assert _config(folder, "servers1.yaml").main.servers == ("http://a:8000",)


@case("50-configuration-from-windows")
def _windows(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    for name in ("bom.yaml", "crlf.yaml"):
        assert _config(folder, name).corpus.frames == 16
    capsys = request.getfixturevalue("capsys")
    for name, line in (("tab.yaml", 2), ("multi.yaml", 3), ("no.yaml", 2), ("comma.yaml", 2)):
        _refused(folder, name, line, request, capsys)
    with pytest.raises(UserError):
        _config(folder, "no.yaml")

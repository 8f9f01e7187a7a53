"""Models' replies, YAML as people write it, and services: what is right for each case."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from annotators import Result
from annotators.health import Unhealthy, check
from annotators.interface import storable
from flywheel.core.config import load_config
from flywheel.core.errors import BorderError, UserError
from flywheel.kinds import Reply
from flywheel.models.load import check_adapter, load_vlm
from flywheel.playground.tiny import bundled_model
from flywheel.store.tracking import Tracker
from noise_control import losses
from tests.annotators.test_services import asked
from tests.cases.checks import case
from tests.chat_server import models, reply, serving


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
    for told in _replies(folder):
        judged = _judged(told["kind"], told["text"])
        if isinstance(judged, Unhealthy):
            assert "refused" in told["want"], told
            assert str(judged)
            refused.append(judged)
            continue
        assert "kept" in told["want"], told
        assert judged.text == told.get("as", judged.text)
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


@case("51-experiment-in-the-bin")
def _binned(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    import mlflow

    made, capsys = request.getfixturevalue("make_workspace"), request.getfixturevalue("capsys")

    def tracker() -> Tracker:
        return Tracker(made("tracking.enabled=true"))

    tracker().metrics(1, {"a": 1.0})
    w = made("tracking.enabled=true")
    client = mlflow.MlflowClient(Tracker(w).tracking_uri())
    client.delete_experiment(w.meta("mlflow_experiment"))
    for round in (2, 3):
        capsys.readouterr()
        tracker().metrics(round, {"a": 1.0})
        assert "experiments restore" in capsys.readouterr().err
    client.restore_experiment(w.meta("mlflow_experiment"))
    tracker().metrics(4, {"a": 1.0})
    history = client.get_metric_history(w.meta("mlflow_parent"), "a")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4]


@case("52-workspace-with-an-apostrophe")
def _registry(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    import mlflow

    made, capsys = request.getfixturevalue("make_workspace"), request.getfixturevalue("capsys")
    for name in (folder / "input" / "steps.txt").read_text().splitlines():
        w = made("tracking.enabled=true", name=name)
        w.model_folder(1).mkdir(parents=True, exist_ok=True)
        tracker = Tracker(w)
        tracker.metrics(1, {"a": 1.0})
        tracker.candidate(1)
        tracker.champion(1)
        said = capsys.readouterr().err
        assert "not taken" not in said
        assert ("registered as" in said) == (":" in name)
        assert not (w.root / "spool").exists()
        model = mlflow.MlflowClient(tracker.tracking_uri()).get_registered_model(name.replace(":", "-"))
        assert model.aliases.keys() == {"candidate", "champion"}


@case("53-adapter-with-bare-names")
def _bare_names(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    adapter = folder / "input" / "adapter"
    base = load_vlm(bundled_model(), precision="fp32").model
    assert check_adapter(adapter, base) == 16
    loaded = dict(load_vlm(bundled_model(), adapter, precision="fp32").model.named_parameters())
    for key, value in load_file(adapter / "adapter_model.safetensors").items():
        name = f"base_model.model.{key.removesuffix('.weight')}.default.weight"
        assert torch.equal(loaded[name], value)
    assert sum("lora_B" in name for name in loaded) == 16


def _exchange(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "input" / "exchange.json").read_text())
    return told


@case("43-server-wants-a-key")
def _key(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    told, patch = _exchange(folder), request.getfixturevalue("monkeypatch")

    def answers(path: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        if headers.get("Authorization") != f"Bearer {told['key']}":
            return told["without_key"]["status"], {}, told["without_key"]["body"]
        return 200, {}, models(work) if path.endswith("models") else reply()

    patch.delenv("OPENAI_API_KEY", raising=False)
    with serving(answers) as url:
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            asked(work, url)
        patch.setenv("OPENAI_API_KEY", told["key"])
        assert asked(work, url)[0].text == "A dog runs."


@case("44-address-with-v1")
def _address(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    moved = _exchange(folder)["also"]["GET /v1/models"]
    with serving(lambda p, h, b: (200, {}, models(work) if p == "/v1/models" else reply())) as url:
        for written in (f"{url}/v1", f"{url}/"):
            assert asked(work, written)[0].finish == "stop"
    with serving(lambda p, h, b: (moved["status"], moved["headers"], {})) as url, pytest.raises(BorderError):
        asked(work, url)


def _answered(folder: Path, work: Path) -> Result:
    told = _exchange(folder)
    body = told["reply_json"].encode() if "reply_json" in told else told["reply"]
    with serving(lambda p, h, b: (200, {}, models(work) if p.endswith("models") else body)) as url:
        return asked(work, url)[0]


@case("45-half-a-character-from-a-server")
def _half(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    result = storable(_answered(folder, work))
    result.text.encode("utf-8")
    assert check(result).text == "A dog runs on grass ."


@case("46-server-without-token-ids")
def _no_tokens(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="no token ids and no log-probs"):
        _answered(folder, work)
    assert time.monotonic() - began < 10


@case("47-reply-without-content")
def _no_content(folder: Path, work: Path, request: pytest.FixtureRequest) -> None:
    with pytest.raises(Unhealthy) as found:
        check(_answered(folder, work))
    assert found.value.name == "empty"

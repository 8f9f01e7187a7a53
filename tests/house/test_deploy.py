"""The images and the compose file: what they copy, call and name is there, and the setup makes a workspace that opens.

No container runs here: what Docker itself does with the files is not tested.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.house.commands import parse

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
IMAGES = ("Dockerfile", "Dockerfile.cuda")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(name: str) -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / name).read_text(), flags=re.M)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def composed() -> dict[str, Any]:
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_copies_what_the_package_is_built_from(name: str) -> None:
    copied = [w for word, rest in instructions(name) if word == "COPY" for w in rest.split()[:-1] if w[:2] != "--"]
    assert [path for path in copied if not (ROOT / path).exists()] == []
    built_from = {"pyproject.toml", "hatch_build.py", "README.md", *PROJECT["license-files"]}
    packages = {f.parent.name for f in ROOT.glob("*/py.typed")}
    assert len(packages) == 5
    assert built_from | packages <= set(copied)
    # What is left out of the build's context can't be copied.
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == let_in


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_installs_extras_that_there_are_and_starts_the_command(name: str) -> None:
    found = instructions(name)
    install = next(rest for word, rest in found if word == "RUN" and "pip install" in rest)
    match = re.search(r"'\.\[([a-z,]+)\]'", install)
    assert match is not None
    extras = set(match[1].split(","))
    assert extras <= set(PROJECT["optional-dependencies"])
    assert ("vllm" in extras) == ("cuda" in name)
    last = dict(found)
    [command] = json.loads(last["ENTRYPOINT"])
    assert command in PROJECT["scripts"]
    parse([command, *[word for word in json.loads(last["CMD"]) if word != "--help"], "doctor"])
    assert last["USER"] == "flywheel"
    assert f"python:{PROJECT['requires-python'].removeprefix('>=')}-slim" == last["FROM"]


def test_the_services_call_commands_that_there_are() -> None:
    services = composed()["services"]
    assert set(services) == {"database", "tracker", "setup", "review", "scheduler", "flywheel"}
    for name in ("review", "scheduler"):
        parse(["flywheel", *[re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in services[name]["command"]]])
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert other in services, name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"
    # What is listened on is what is published and looked at.
    assert services["review"]["command"][-1] == services["review"]["ports"][0].rpartition(":")[2] == "8470"
    assert "8470" in services["review"]["healthcheck"]["test"][-1]
    assert services["setup"]["command"] == ["/data/corpus"]
    assert services["flywheel"]["working_dir"] == "/data/corpus"


def test_volumes_images_and_variables_are_declared() -> None:
    found = composed()
    mounted = {v.split(":")[0] for s in found["services"].values() for v in s.get("volumes", ()) if "$" not in v}
    assert mounted == set(found["volumes"])
    for file in ("compose.yaml", "compose.cuda.yaml"):
        for service in yaml.safe_load((DEPLOY / file).read_text())["services"].values():
            if build := service.get("build"):
                assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    assert set(yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text())["services"]) <= set(found["services"])
    page = (ROOT / "docs" / "containers.md").read_text()
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert asked == {"POSTGRES_PASSWORD", "VIDEOS", "PRESET", "SERVER", "MODEL_KEY", "CRON"}
    assert [name for name in asked if name not in page] == []
    in_setup = set(re.findall(r"\$\{?([A-Z_]+)", (DEPLOY / "setup.sh").read_text()))
    assert in_setup <= set(found["x-flywheel"]["environment"])


def test_the_page_calls_services_and_commands_that_there_are() -> None:
    text = (ROOT / "docs" / "containers.md").read_text()
    lines = [shlex.split(line) for line in re.findall(r"^docker .*$", text, re.M)]
    assert len(lines) >= 8
    for words in lines:
        for option, value in pairwise(words):
            if option == "--file":
                assert (ROOT / value).is_file(), value
        if "compose" in words and "run" in words:
            assert words[words.index("run") + 1 :][:2] == ["--rm", "flywheel"]
            parse(words[words.index("flywheel", words.index("run")) :])
        elif words[1] == "run":
            image = next(i for i, word in enumerate(words) if word.startswith("flywheel:"))
            parse(["flywheel", *words[image + 1 :]])


def test_the_tracker_s_options_are_mlflow_s() -> None:
    """As MLflow's sources declare them: importing them takes five seconds."""
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    declared = (package / "cli" / "__init__.py").read_text() + (package / "utils" / "cli_args.py").read_text()
    tracker = composed()["services"]["tracker"]
    assert tracker["entrypoint"] == ["mlflow"]
    name, *options = tracker["command"]
    assert name == "server"
    for option in options:
        assert f'"{option.partition("=")[0]}",' in declared, option
    assert "--port=5000" in options
    assert any(option.startswith("--allowed-hosts=tracker:5000,") for option in options)


@pytest.mark.slow
def test_the_setup_makes_a_workspace_once(tmp_path: Path) -> None:
    environment = composed()["x-flywheel"]["environment"]
    known = {name: str(value) for name, value in environment.items() if name.startswith("FLYWHEEL_")}
    known |= {
        "FLYWHEEL_PRESET": "server",
        "FLYWHEEL_SERVER": "http://gpu-1:8000",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    command = tmp_path / "flywheel"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flywheel.cli "$@"\n')
    command.chmod(0o755)

    def run() -> None:
        done = subprocess.run(
            ["sh", str(DEPLOY / "setup.sh"), str(tmp_path / "data" / "corpus")],
            env={**os.environ, "PYTHONPATH": str(ROOT), **known},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    (tmp_path / "data" / "corpus.new").mkdir(parents=True)  # of a setup that was cut off
    run()
    from flywheel.core.config import load_config

    file = tmp_path / "data" / "corpus" / "flywheel.yaml"
    config = load_config(file)
    assert config.store.database == "postgresql://flywheel@database/flywheel"
    assert config.tracking.uri == "http://tracker:5000"
    assert (config.main.servers, config.main.api_key_env) == (("http://gpu-1:8000",), "MODEL_KEY")
    assert "MODEL_KEY" in environment
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["corpus"]
    file.write_text(file.read_text() + "# mine\n")
    run()
    assert file.read_text().endswith("# mine\n")

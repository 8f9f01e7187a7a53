"""The public host's CI and issue forms: targets, files, versions and commands that they name are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.house.commands import parse

ROOT = Path(__file__).resolve().parents[2]
HOSTED = ROOT / ".github"


def jobs() -> dict[str, Any]:
    found = {}
    for file in sorted((HOSTED / "workflows").glob("*.yml")):
        workflow = yaml.safe_load(file.read_text())
        assert workflow["permissions"] == {"contents": "read"}, file.name
        found |= {f"{file.stem}/{name}": job for name, job in workflow["jobs"].items()}
    return found


def test_the_hosts_jobs_run_what_ci_runs() -> None:
    makefile, local = (ROOT / "Makefile").read_text(), (ROOT / ".ci" / "run").read_text()
    targets = " ".join(jobs()["ci/make"]["strategy"]["matrix"]["target"]).split()
    assert {"setup", *targets} == set(re.findall(r"^make ([a-z-]+)", local, re.M))
    for job in jobs().values():
        for step in job["steps"]:
            for target in re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.M):
                assert f"\n{target}:" in makefile, target
            for command in re.findall(r"\bflywheel [^&|]+", step.get("run", "")):
                if command.split()[1] != "--version" and "__" not in command:
                    parse(command.split())


def test_the_hosts_pythons_are_those_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
    assert set(jobs()["ci/package"]["strategy"]["matrix"]["python"]) == named
    lowest = project["requires-python"].removeprefix(">=")
    assert jobs()["ci/make"]["container"].startswith(f"python:{lowest}-")


def test_only_the_jobs_that_publish_may_write() -> None:
    may_write = {name for name, job in jobs().items() if "write" in str(job.get("permissions", ""))}
    assert may_write == {"release/index", "release/site"}


def test_the_issue_forms_ask_for_commands_that_there_are() -> None:
    for file in sorted((HOSTED / "ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(file.read_text())
        for command in re.findall(r'"(flywheel [^"]+)"', file.read_text()):
            if command != "flywheel --version":
                parse(command.split())
        if file.stem != "config":
            assert {"name", "description", "body"} <= set(form)
            assert all({"type", "attributes"} <= set(part) for part in form["body"])

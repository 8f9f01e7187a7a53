"""The image files, read as a linter of image files reads them: instructions, users, shells, ports and mounts."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.house.test_deploy import IMAGES, composed, instructions

#: Docker's own instructions; MAINTAINER is of the past.
_INSTRUCTIONS = {"FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER"}
_INSTRUCTIONS |= {"WORKDIR", "ARG", "ONBUILD", "STOPSIGNAL", "HEALTHCHECK", "SHELL"}


def faults(found: list[tuple[str, str]]) -> list[str]:
    """What hadolint's rules (their numbers stand behind) have against the instructions of an image file."""
    out, user, places = [], "root", [word for word, _ in found]
    if places[:1] != ["FROM"] or places.count("CMD") > 1 or places.count("ENTRYPOINT") > 1:
        out.append("FROM first, CMD and ENTRYPOINT once (DL3061, DL4003, DL4004)")
    for word, rest in found:
        said = f"{word} {rest}"
        if word not in _INSTRUCTIONS:
            out.append(f"{said}: no such instruction")
        if word == "ADD":
            out.append(f"{said}: COPY for files and folders (DL3020)")
        if word == "FROM" and (":" not in rest or rest.endswith(":latest")):
            out.append(f"{said}: names no version (DL3006, DL3007)")
        if word == "WORKDIR" and not rest.startswith("/"):
            out.append(f"{said}: not from the root (DL3000)")
        if word in ("CMD", "ENTRYPOINT") and not isinstance(_json(rest), list):
            out.append(f"{said}: by a shell, which signals do not go through (DL3025)")
        if word == "COPY" and len(paths := [p for p in rest.split() if p[:2] != "--"]) > 2 and paths[-1][-1] != "/":
            out.append(f"{said}: several into what is no folder (DL3021)")
        if word == "RUN":
            out += [f"{said}: {fault}" for fault in _of_shell(rest)]
        user = rest if word == "USER" else user
    if user == "root":
        out.append("it ends as root (DL3002)")
    return out


def _of_shell(line: str) -> list[str]:
    words, out = shlex.split(line), []
    if re.search(r"\b(sudo|ssh|vim|shutdown|service|ps|free|top|kill|mount)\b", line):
        out.append("no command for images (DL3001, DL3004)")
    if re.search(r"\bcd [^&]*$", line):
        out.append("WORKDIR instead of cd (DL3003)")
    if "apt-get" in words and not ({"-y", "--yes"} & set(words)):
        out.append("asks (DL3014)")
    if "apt-get" in words and "--no-install-recommends" not in words:
        out.append("takes what is recommended along (DL3015)")
    if ("update" in words) != ("/var/lib/apt/lists/*" in words):
        out.append("leaves the lists of packages in the layer (DL3009)")
    return out


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


@pytest.mark.parametrize("name", IMAGES)
def test_the_linter_s_rules_have_nothing_against_it(name: str) -> None:
    assert faults(instructions(name)) == []
    settings = dict(pair.split("=") for word, rest in instructions(name) if word == "ENV" for pair in rest.split())
    assert settings["PIP_NO_CACHE_DIR"] == "1", "DL3042"


def test_the_rules_find_what_they_are_for() -> None:
    bad = ["FROM python", "MAINTAINER me", "ADD a b", "WORKDIR src", "COPY a b c", "CMD flywheel --help"]
    bad += ["RUN apt-get update && apt-get install g++", "RUN sudo pip install x"]
    numbers = {n for fault in faults([tuple(line.split(" ", 1)) for line in bad]) for n in re.findall(r"DL\d+", fault)}
    assert numbers == {f"DL{n}" for n in (3000, 3001, 3002, 3004, 3006, 3007, 3009, 3014, 3015, 3020, 3021, 3025)}


def made_folders(name: str) -> set[str]:
    """Folders outside the sources that an image makes."""
    lines = [shlex.split(rest) for word, rest in instructions(name) if word == "RUN"]
    return {w for words in lines if "mkdir" in words for w in words[words.index("mkdir") + 1 :] if w[0] == "/"}


@pytest.mark.parametrize("name", IMAGES)
def test_what_services_call_and_mount_is_in_the_image(name: str) -> None:
    found = instructions(name)
    copied = [rest.split()[-1] for word, rest in found if word == "COPY"]
    services = {n: s for n, s in composed()["services"].items() if s["image"].startswith("flywheel")}
    own = {command for s in services.values() for command in s.get("entrypoint", ()) if command.startswith("flywheel-")}
    assert own == {Path(place).name for place in copied if place.startswith("/usr/local/bin/")} == {"flywheel-setup"}
    # A volume that is mounted where the image has no folder of the user's would be root's.
    volumes = {v.split(":")[1] for s in services.values() for v in s["volumes"] if not v.startswith("$")}
    assert volumes == made_folders(name) == {"/data", "/models"}
    chowned = next(rest for word, rest in found if word == "RUN" and "useradd" in rest)
    assert "chown flywheel: /data /models" in chowned
    assert ("ENV", "HF_HOME=/models") in found


def test_addresses_ports_and_checks_of_services_fit_one_another() -> None:
    found = composed()
    services, environment = found["services"], found["x-flywheel"]["environment"]
    tracker, database = urlsplit(environment["FLYWHEEL_TRACKER"]), urlsplit(environment["FLYWHEEL_DATABASE"])
    options = dict(option[2:].split("=", 1) for option in services["tracker"]["command"][1:])
    assert tracker.hostname in services
    assert str(tracker.port) == options["port"]
    assert services["tracker"]["ports"] == [f"127.0.0.1:{tracker.port}:{tracker.port}"]
    assert f"127.0.0.1:{tracker.port}/health" in services["tracker"]["healthcheck"]["test"][-1]
    assert f"{tracker.hostname}:{tracker.port}" in options["allowed-hosts"].split(",")
    # What MLflow keeps lies in the volume.
    [volume] = services["tracker"]["volumes"]
    kept = [options["backend-store-uri"].removeprefix("sqlite:///"), options["artifacts-destination"]]
    assert all(place.startswith(volume.split(":")[1] + "/") for place in kept)
    asked = services["database"]["environment"]
    assert database.hostname in services
    assert (database.username, database.path[1:]) == (asked["POSTGRES_USER"], asked["POSTGRES_DB"])
    assert database.password is None, "it is in the environment alone"
    assert "PGPASSWORD" in environment
    for name in ("review", "scheduler", "flywheel"):
        ready = {n: how["condition"] for n, how in services[name]["depends_on"].items()}
        assert {n for n, how in ready.items() if how == "service_healthy"} == {"database", "tracker"}
        assert ready["setup"] == "service_completed_successfully"
    assert all("healthcheck" in services[name] for name in ("database", "tracker", "review"))

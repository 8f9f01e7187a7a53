"""What is published: a wheel and an sdist that need no checkout, with metadata whose links lead somewhere."""

from __future__ import annotations

import email
import email.message
import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flywheel", "noise_control", "annotators", "trainers", "human_refine")
ADDRESS = "https://git.example/team/flywheel"
BUILD = runpy.run_path(str(ROOT / "hatch_build.py"))


@dataclass(frozen=True)
class Built:
    """The two files of a release: the wheel was built from the unpacked sdist, as indexes and distributions do."""

    sdist: Path
    wheel: Path

    def metadata(self) -> email.message.Message:
        """The wheel's METADATA."""
        archive = zipfile.ZipFile(self.wheel)
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built without a network; the address is known when the sdist is made, and in it from then on."""
    folder = tmp_path_factory.mktemp("built")

    def build(target: str, place: Path, **environment: str) -> Path:
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        known = {k: v for k, v in os.environ.items() if k != "FLYWHEEL_REPOSITORY_URL"} | environment
        subprocess.run(command, cwd=place, env=known, check=True, capture_output=True)
        return next(folder.glob("*.whl" if target == "wheel" else "*.tar.gz"))

    sdist = build("sdist", ROOT, FLYWHEEL_REPOSITORY_URL=ADDRESS)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = next(p for p in folder.iterdir() if p.is_dir())
    return Built(sdist=sdist, wheel=build("wheel", unpacked))


@pytest.mark.slow
def test_the_wheel_holds_exactly_what_is_on_disk(built: Built) -> None:
    shipped = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    on_disk = {
        str(p.relative_to(ROOT))
        for package in PACKAGES
        for p in (ROOT / package).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert shipped == on_disk
    assert {"annotators/prompts/caption.yaml", "flywheel/playground/base_vlm/model.safetensors"} <= shipped
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped


@pytest.mark.slow
def test_the_metadata_leads_to_the_public_repository(built: Built) -> None:
    found = built.metadata()
    import flywheel

    assert (found["Name"], found["Version"]) == ("video-dataflywheel", flywheel.__version__)
    assert (found["License-Expression"], found.get_all("License-File")) == ("Apache-2.0", ["LICENSE", "NOTICE"])
    assert f"Source, {ADDRESS}" in found.get_all("Project-URL", [])
    assert "Typing :: Typed" in found.get_all("Classifier", [])
    readme = str(found.get_payload())
    targets = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert len(targets) > 10
    assert [t for t in targets if not t.startswith("https://")] == []
    assert f"({ADDRESS}/raw/v{flywheel.__version__}/docs/images/review-light.png)" in readme


@pytest.mark.slow
def test_a_clean_environment_runs_what_was_built(built: Built, tmp_path: Path) -> None:
    """Of a venv that has the wheel, and its dependencies from elsewhere: a workspace, a prompt, a model, the page."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    install.append("--no-compile")
    subprocess.run([*install, str(built.wheel)], check=True, capture_output=True)
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # No .pth file of that folder is read, so nothing of the checkout is found through it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*command: str) -> str:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    flywheel = str(tmp_path / "venv" / "bin" / "flywheel")
    assert run(flywheel, "--version").startswith("flywheel ")
    run(flywheel, "init", "w", "--preset", "qwen3-vl-2b")
    code = """
import annotators, flywheel, human_refine
from importlib import resources
from pathlib import Path
from flywheel.playground.tiny import bundled_model
for name in ("caption", "dense_caption", "qa", "tags", "seen", "heard", "judge"):
    assert annotators.prompt_file(name, Path("nowhere")).read_text()
assert (bundled_model() / "model.safetensors").stat().st_size > 8_000_000
for page in ("templates/review.html", "templates/lead.html", "static/review.js", "static/review.css"):
    assert (resources.files("human_refine") / page).read_text()
assert (resources.files("flywheel.rounds") / "templates" / "report.html").read_text()
print(flywheel.__file__)
"""
    assert run(str(python), "-c", code).strip().startswith(str(site))


def test_links_of_a_package_s_readme() -> None:
    absolute = BUILD["absolute"]
    text = (
        "[a](docs/a.md#b) ![p](x/p.png) [w](https://w.example/) [h](#here) [[1]](../LICENSE)\n"
        "```sh\n[no](link)\n```\n[c](c.md)"
    )
    assert absolute(text, ADDRESS, "2", folder="docs") == (
        f"[a]({ADDRESS}/blob/v2/docs/docs/a.md#b) ![p]({ADDRESS}/raw/v2/docs/x/p.png) [w](https://w.example/) "
        f"[h](#here) [[1]]({ADDRESS}/blob/v2/LICENSE)\n```sh\n[no](link)\n```\n[c]({ADDRESS}/blob/v2/docs/c.md)"
    )
    assert absolute(text, "", "2") == "a  [w](https://w.example/) [h](#here) [1]\n```sh\n[no](link)\n```\nc"


def test_every_page_that_the_metadata_names_is_there() -> None:
    named = [address.split("/v1/")[1] for address in BUILD["urls"](ADDRESS, "1").values() if "/v1/" in address]
    assert len(named) == 3
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_bundled_model_has_a_card_and_a_line_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text()
    models = [file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.safetensors")]
    assert models
    for folder in models:
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlicense: apache-2.0\n"), folder
        assert {"trained on", "not for", "licence"} <= set(re.findall(r"^\| ([^|]+?) \|", card, re.M)), folder
        assert str(folder.relative_to(ROOT)) in notice


def test_the_project_table_names_what_an_index_shows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["authors"]
    assert project["keywords"]
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(project["classifiers"])

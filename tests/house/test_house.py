"""The house itself: names are ours, the loop never opens the oracle,
no secrets on record."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flywheel", "noise_control", "annotators", "trainers", "human_refine")


@pytest.mark.slow
def test_no_other_distribution_owns_our_names() -> None:
    owners = metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["video-dataflywheel"])) == {"video-dataflywheel"}, package


def test_no_two_files_of_tests_share_a_name() -> None:
    """pytest takes the second for the first where both are collected."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.slow
def test_only_the_demo_reads_the_oracle() -> None:
    """The loop sees videos and transcripts; the truth is for measuring and for the simulated refiner."""
    allowed = {"flywheel/playground/corpus.py", "flywheel/playground/av/corpus.py", "flywheel/cli/data.py"}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            strings = [
                n.value
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
            opens = any("oracle.parquet" in s and "\n" not in s and "`" not in s for s in strings)
            assert not opens or name in allowed or name.startswith("flywheel/demo/"), name
    assert not [p for p in (ROOT / "flywheel/cli").glob("*.py") if "read_parquet" in p.read_text()]


def test_no_pickled_weights_no_large_files() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in files:
        path = ROOT / name
        if path.exists():
            assert path.stat().st_size <= 12 * 2**20, name
            assert path.suffix not in (".bin", ".pt", ".pth", ".pkl"), name


def test_registered_names_obey_the_order_of_rooms() -> None:
    """What is built by name at run time lives in the room whose registry it is, and imports what that room may."""
    import annotators
    from noise_control import losses, rules

    for package, names in (
        ("noise_control/losses", losses.names()),
        ("noise_control/rules", rules.names()),
        ("annotators/engines", annotators.names()),
    ):
        for name in names:
            tree = ast.parse((ROOT / package / f"{name}.py").read_text())
            assert any(isinstance(n, ast.FunctionDef) and n.name == name and ast.get_docstring(n) for n in tree.body), (
                name
            )
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module:
                    assert not node.module.startswith(
                        ("flywheel.rounds", "flywheel.cli", "trainers", "human_refine")
                    ), name


def test_secrets_stay_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config has no place for a secret, and what is resolved and stored holds none of the environment."""
    from flywheel.core.config import Config, template
    from flywheel.core.config.load import section_of
    from flywheel.store import Workspace

    def keys(model: object) -> list[str]:
        sections = [section_of(s.annotation) for s in Config.model_fields.values()]
        return [name for section in sections if section is not None for name in section.model_fields]

    # A name that ends so is that of the variable which holds the secret.
    names = [k for k in keys(Config) if not k.endswith("_env")]
    assert not [k for k in names if re.search("secret|password|api_key|auth", k)]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush-hush-token")
    Workspace.create(tmp_path / "w", template())
    workspace = Workspace.open(tmp_path / "w")
    assert "hush-hush-token" not in yaml.safe_dump(workspace.config.model_dump(mode="json"))
    assert not any(b"hush-hush-token" in p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file())


def test_every_loss_edit_and_config_section_is_in_the_docs() -> None:
    from flywheel.core.config import Config
    from flywheel.sound import actions
    from noise_control import losses, rules

    text = "\n".join(p.read_text() for p in (ROOT / "docs").rglob("*.md")) + (ROOT / "README.md").read_text()
    for name in (*losses.names(), *rules.names(), *actions.names(), *Config.model_fields):
        assert f"`{name}`" in text, name


def test_every_test_that_the_docs_name_exists() -> None:
    defined = set(
        re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py")), re.M)
    )
    for page, at_least in (("theory.md", 15), ("faults.md", 80)):
        named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text()))
        assert len(named) > at_least
        assert named <= defined, named - defined

"""The pages: commands, keys, columns, names and links that they give are there, and what can be run is run."""

from __future__ import annotations

import ast
import csv
import json
import re
import shlex
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from typer._click.exceptions import ClickException

from flywheel.core.config import Config
from flywheel.core.config.load import section_of
from flywheel.store import Workspace
from tests.house.commands import parse
from tests.house.notebooks import outputs_of
from tests.plugins import Command

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands_of(page: Path) -> list[list[str]]:
    """The commands of a page's shell blocks, as words; a line that ends with a backslash goes on."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text_of(page), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_every_command_of_the_pages_is_one_that_there_is() -> None:
    """With its options, required arguments, kinds of values and keys after ``--set``."""
    makefile = (ROOT / "Makefile").read_text()
    commands = [words for page in PAGES for words in commands_of(page)]
    assert len(commands) > 60
    for words in commands:
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile, words
        elif words[0] == "flywheel":
            try:
                parse(words)
            except (ClickException, KeyError) as error:
                pytest.fail(f"{shlex.join(words)}: {error}")
            for option, value in pairwise(words):
                if option == "--set":
                    assert is_key(value.partition("=")[0]), words


@cache
def keys() -> frozenset[str]:
    sections = {name: section_of(field.annotation) for name, field in Config.model_fields.items()}
    return frozenset(f"{name}.{key}" for name, section in sections.items() if section for key in section.model_fields)


def is_key(name: str) -> bool:
    """Whether it is a key of the configuration; what is below ``models`` hangs on the roles that there are."""
    return name in keys() or name.startswith(("models.", "loss.arguments."))


def test_every_key_that_the_pages_name_is_one() -> None:
    # Keys of before, and a file.
    others = {"annotate.engine", "corpus.model", "pretrain.precision", "store.mark"}
    pages = "\n".join(text_of(page) for page in PAGES if not {"decisions", "glossary.md"} & set(page.parts))
    for name in re.findall(r"`([a-z]+\.[a-z_]+)(?:: [^`]*|=[^`]*)?`", pages):
        if name.partition(".")[0] in Config.model_fields and not name.endswith(
            (".py", ".md", ".yaml", ".json", ".png", ".log", ".db")
        ):
            assert is_key(name) or name in others, name


def anchors_of(page: Path) -> set[str]:
    """The places of a page's headings, as renderers name them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_the_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^()\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


def test_the_data_page_names_every_column_and_ending() -> None:
    from flywheel.formats import rows, tables, timed_text
    from flywheel.ingest.items import VIDEO_SUFFIXES
    from flywheel.ingest.rows import names as columns

    page = text_of(ROOT / "docs" / "data.md")
    named = set(re.findall(r"`([^`]+)`", page))
    of_rows = (columns.PATHS, columns.IDS, columns.MAYBE_IDS, columns.ADDRESSES, columns.TEXTS, columns.TURNS)
    of_times = (columns.SPANS, columns.START_FRAMES, columns.END_FRAMES, columns.FPS, columns.FROM, columns.TO)
    of_corrections = (rows.REQUIRED, rows.OPTIONAL, rows.CHOICE_REQUIRED, rows.CHOICE_OPTIONAL)
    endings = (VIDEO_SUFFIXES, timed_text.endings(), timed_text.UNREAD, tables.ENDINGS, tables.WORKBOOKS)
    wanted = {name for group in (*of_rows, *of_times, *of_corrections, *endings) for name in group}
    assert wanted - named == set()
    # Begin and end are a stem and an ending each.
    for name in (*columns.STARTS, *columns.ENDS, *columns.STARTS_MS, *columns.ENDS_MS):
        assert any(name == a + b for a in named if name.startswith(a) for b in (*named, "")), name


def names_of(assignment: ast.Assign) -> list[str]:
    return [target.id for target in assignment.targets if isinstance(target, ast.Name)]


def test_the_python_page_names_every_face() -> None:
    page = text_of(ROOT / "docs" / "python.md")
    rows = re.findall(r"^\| `([a-z_.]+)` \| ((?:`\w+`(?:, )?)+) \|", page, re.M)
    assert len(rows) == 9
    for package, names in rows:
        # Read, since importing all of them takes seconds.
        tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
        faces = next(
            ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and "__all__" in names_of(n)
        )
        assert sorted(re.findall(r"\w+", names)) == sorted(faces), package


@pytest.mark.slow
def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text_of(ROOT / "docs" / "python.md"), re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "python.md", "exec"), {"__name__": "page"})


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")), ids=lambda file: file.stem)
def test_the_notebooks_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their cells, with as much to show as stands in the file."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(file.read_text(encoding="utf-8"))
    shown = [[kind["output_type"] for kind in c["outputs"]] for c in notebook["cells"] if c["cell_type"] == "code"]
    assert sum(map(len, shown)) >= 5
    assert [[kind["output_type"] for kind in outputs] for outputs in outputs_of(notebook)] == shown


#: What a test has no time, network, model or person for: these are parsed, and have tests of their own.
_NOT_RUN = ("download", "open", "review", "serve", "transcribe", "schedule start", "doctor --config")
_PRESET = re.compile(r"--preset [a-z0-9.-]+(?: --gpus \d+)?(?: --gpu-memory \d+)?")
_FEW_STEPS = [
    *("--set", "pretrain.num_steps=2", "--set", "finetune.num_steps=2", "--set", "tracking.enabled=false"),
    *("--set", "finetune.min_corrections=1"),
]


@pytest.fixture(scope="module")
def data(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipes call ``/data``: five videos, with texts beside them and in a table."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "videos").mkdir()
    for video in sorted((corpus / "corpus").glob("*.mp4"))[:5]:
        for file in (video, video.with_suffix(".txt")):
            shutil.copy(file, folder / "videos")
    (folder / "lectures").symlink_to(folder / "videos")
    videos = [str(file) for file in sorted((folder / "videos").glob("*.mp4"))]
    for name in ("captions", "lectures"):
        rows = [
            {"video": video, "caption": f"a clip, number {n}", "speaker": f"s{n}"} for n, video in enumerate(videos)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_recipes_run(
    recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commandline: Command
) -> None:
    """Command by command, with the demo model and few steps; whole rounds in the first one alone."""
    monkeypatch.chdir(tmp_path)
    is_whole = recipe.stem == "own-folder"
    for words in commands_of(recipe):
        line = _PRESET.sub("", shlex.join(words)).replace("/data/", f"{data}/")
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
        if words[0] != "flywheel" or any(f"flywheel {name}" in line for name in _NOT_RUN) or "corpus-2" in line:
            continue
        if words[1] in ("round", "run", "corrections", "report", "export") and not is_whole:
            continue
        arguments = shlex.split(line)[1:]
        if words[1] in ("round", "run"):
            arguments += _FEW_STEPS
        if words[1] == "show":
            arguments[1] = Workspace.open(tmp_path / "lectures").clips()["id"][0]
        if words[1:3] == ["corrections", "import"]:
            _fill_in(Path(words[3]))
        ended = commandline(*arguments)
        # A gate that has too few corrections says so, and ends with 3.
        assert ended in ((0, 3) if words[1] == "round" else (0,)), line
    if is_whole:
        assert list((tmp_path / "my-corpus").rglob("report.html"))
        assert (tmp_path / "my-corpus" / "captions" / "dataset.json").exists()


def _fill_in(file: Path) -> None:
    """Accept all rows but the first, which stays blank."""
    with file.open(newline="") as handle:
        first, *others = csv.DictReader(handle)
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(first))
        writer.writeheader()
        writer.writerows([first, *({**row, "verdict": "accept", "refiner": "Ann"} for row in others)])

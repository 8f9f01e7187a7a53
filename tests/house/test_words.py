"""What users read is plain: no word of the glossary's house column in help, pages, the report and error lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flywheel.cli import app

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flywheel", "noise_control", "annotators", "trainers", "human_refine")
#: Calls whose texts end before people.
SAYING = {
    "say",
    "confirm",
    "print_text",
    "UserError",
    "FlywheelError",
    "MediaError",
    "BorderError",
    "GateRefused",
    "Check",
    # What the page's server answers.
    "HTTPException",
    "Conflict",
    "Gone",
    "ValueError",
}
#: Where words are made that the report, the home page, MLflow and `flywheel status` show.
WORDED = ("outlook", "verdict", "figures", "home", "curation_view", "report_clips", "watch", "gate", "plots", "answers")


def house_words() -> re.Pattern[str]:
    section = (ROOT / "docs" / "glossary.md").read_text().split("## Words that stay in the house")[1]
    words = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", section, re.M)[1:]
    assert {"mend", "wheel", "refiner"} <= set(words)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})(?:s|ed|ing)?\b", re.I)


def found_in(texts: Iterator[tuple[str, str]]) -> list[str]:
    """Where one of the words stands, apart from names of keys and values, which stand in quotes or backticks."""
    words = house_words()
    read = [(place, re.sub(r"`[^`]*`|'[a-z_.]*'", "", text)) for place, text in texts]
    assert len(read) > 10
    return [f"{place}: {text.strip()[:100]}" for place, text in read if words.search(text)]


def helps(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """A command's help, and its options'."""
    yield name, command.help or ""
    yield from ((f"{name} {option.name}", getattr(option, "help", None) or "") for option in command.params)
    for inner, below in getattr(command, "commands", {}).items():
        yield from helps(below, f"{name} {inner}")


def said() -> Iterator[tuple[str, str]]:
    """Texts in calls that say something to people."""
    words = house_words()
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        text = file.read_text()
        # Most files have none of them, and parsing takes time.
        if not words.search(text):
            continue
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in SAYING:
                for part in ast.walk(call):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value:
                        yield f"{file.relative_to(ROOT)}:{part.lineno}", part.value


def worded() -> Iterator[tuple[str, str]]:
    """Texts, apart from docstrings, of the modules whose words people read."""
    for file in (
        *(ROOT / "flywheel" / "rounds" / f"{name}.py" for name in WORDED),
        *(ROOT / "flywheel" / "status").glob("*.py"),
    ):
        tree = ast.parse(file.read_text())
        docs = {id(part.value) for part in ast.walk(tree) if isinstance(part, ast.Expr)}
        texts = (part for part in ast.walk(tree) if isinstance(part, ast.Constant) and isinstance(part.value, str))
        # A name alone is a key, or a column.
        yield from ((f"{file.name}:{t.lineno}", t.value) for t in texts if id(t) not in docs and " " in t.value.strip())


def shown() -> Iterator[tuple[str, str]]:
    """Words of the pages: what stands between the tags of templates, and sentences in scripts."""
    for file in (*ROOT.glob("human_refine/templates/*.html"), *ROOT.glob("flywheel/rounds/templates/*.html")):
        text = re.sub(r"(?s)<(style|script)\b.*?</\1>|\{[{%#].*?[}%#]\}", "", file.read_text())
        named = [words for _, words in re.findall(r"""(?:title|aria-label|placeholder|alt)=(["'])(.*?)\1""", text)]
        yield from ((file.name, words) for words in (*re.sub(r"(?s)<[^>]*>", "\n", text).splitlines(), *named))
    for file in ROOT.glob("human_refine/static/**/*.js"):
        code = re.sub(r"(?m)^\s*//.*$|/\*.*?\*/", "", file.read_text())
        yield from ((file.name, words) for words in re.findall(r'"([^"\n]* [^"\n]*)"', code))
        yield from ((file.name, words) for words in re.findall(r"[`']([^`'\n]* [^`'\n]*)[`']", code))


#: Wordings that a newcomer stumbled over, and that stand nowhere any more where people read.
FORMER = """
and the mend | MISS GPU | holds no clips | is done up to | annotations by M | f"open rejects |
needed to tell at all | exact p {test | level:.2g} of look | is no proven | got worse on the one |
promoted untested | adapter proven on | names no clips | not ours to delete | needs 'verdict' |
schedule: no times | nothing before it | Leave a refiner's words out of all | Take the champion's |
"Corrections as files | Last stage to run | At most so many | takes a free one | What is right | Nothing changed |
Came with the video | Earlier texts | draft kept | Nothing is left to be looked at | Why is it to be |
About another clip | Not fit to be shown | Somebody was faster | Stands now | Yours against it |
Save mine after it | Leave it, go on | Take these in | To the texts | Taken back< | Gold right | too dear |
What becomes of a word | surely fails | turns the wheel
"""


def test_wordings_that_were_stumbled_over_are_gone() -> None:
    former = [words.strip() for words in FORMER.replace("\n", " ").split(" | ")]
    assert len(former) == 46
    files = [*ROOT.glob("human_refine/templates/*.html"), *ROOT.glob("human_refine/static/*.js"), ROOT / "README.md"]
    files += [*ROOT.glob("flywheel/*.py"), *ROOT.glob("flywheel/cli/*.py"), *ROOT.glob("flywheel/rounds/*.py")]
    files += [
        *ROOT.glob("flywheel/demo/*.py"),
        ROOT / "annotators" / "proof.py",
        ROOT / "flywheel" / "search" / "indexing.py",
    ]
    files += [
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/recipes/*.md"),
        ROOT / "docs" / "notebooks" / "first-round.ipynb",
    ]
    texts = {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}
    assert [(name, words) for name, text in texts.items() for words in former if words in text] == []


def test_no_house_word_in_help() -> None:
    assert found_in(helps(get_command(app), "flywheel")) == []


@pytest.mark.slow
def test_no_house_word_in_error_lines_and_messages() -> None:
    assert found_in(said()) == []


def test_no_house_word_on_the_pages() -> None:
    assert found_in(shown()) == []


def test_no_house_word_in_verdicts_figures_and_what_comes_next() -> None:
    assert found_in(worded()) == []

"""Prompts at hand: those that come with the program, and those of a workspace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from annotators import prompt_file
from flywheel.core.errors import UserError
from flywheel.models.prompt import Prompt, load_prompt

_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """A prompt in a list: its name or path, the kind of text it asks for, the model it asks, and its first words."""

    name: str
    kind: str
    model: str
    instruction: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        words = " ".join(self.instruction.split())
        words = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"
        return f"{self.name}  ({self.kind}, asks models.{self.model}): {words}"


def bundled() -> list[str]:
    """Names of the prompts that come with the program."""
    folder = Path(str(resources.files("annotators") / "prompts"))
    return sorted(file.stem for file in folder.glob("*.yaml"))


def listed(root: Path) -> Iterator[PromptLine]:
    """The bundled prompts, and the prompt files that lie in a workspace or its folder ``prompts``."""
    for name in bundled():
        yield _line(name, load_prompt(prompt_file(name, root)))
    for file in sorted([*root.glob("*.yaml"), *root.glob("prompts/*.yaml")]):
        try:
            yield _line(str(file.relative_to(root)), load_prompt(file))
        except UserError:
            # Another YAML file, such as the configuration.
            continue


def _line(name: str, prompt: Prompt) -> PromptLine:
    return PromptLine(name=name, kind=prompt.kind, model=prompt.role, instruction=prompt.instruction)


def found(name: str, root: Path) -> Path:
    """The file of a prompt by its name or path. Raises UserError with the names that there are for another."""
    file = prompt_file(name, root)
    if not file.is_file():
        raise UserError(f"{name}: no such prompt. There are {', '.join(bundled())}, and paths of prompt files.")
    return file


def copied(name: str, to: Path, root: Path) -> Path:
    """Copy a prompt to a new file, to be changed; returns it. Raises UserError where there is one already."""
    text = found(name, root).read_text(encoding="utf-8")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with open(to, "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError as error:
        raise UserError(f"{to}: exists already. Name another file.") from error
    except OSError as error:
        raise UserError(f"{to}: can't be written ({error.strerror}).") from error
    return to

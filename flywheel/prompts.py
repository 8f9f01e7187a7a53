"""Prompts at hand: those that come with the program, and those of a workspace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotators import prompt_file
from flywheel import kinds
from flywheel.core.errors import MediaError, UserError
from flywheel.core.foreign import as_lines, one_line
from flywheel.models.prompt import Prompt, load_prompt

if TYPE_CHECKING:
    from flywheel.rounds import RoundContext

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
        return f"{self.name}  ({self.kind}, asks models.{self.model}): {one_line(self.instruction, _SHOWN)}"


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


@dataclass(frozen=True, kw_only=True)
class TriedReply:
    """What a model answered to a prompt about one clip: ``asked`` is the words that it got beside the clip."""

    clip_id: str
    file: str
    asked: str
    reply: str
    finish: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        cut = " (cut off at annotate.max_new_tokens)" if self.finish == "length" else ""
        return as_lines([f"{self.clip_id[:12]}  {Path(self.file).name}", f"    {' '.join(self.reply.split())}{cut}"])


def tried(context: RoundContext, name: str, count: int) -> Iterator[TriedReply]:
    """Ask the model in use about the first clips (by id), by a prompt; nothing is kept.

    Raises UserError for a prompt about texts, and where no clip can be read.
    """
    from annotators.interface import Request
    from annotators.tasks import Asking
    from flywheel.rounds.champion import writer_of
    from flywheel.rounds.progress import current_round

    prompt = load_prompt(found(name, context.workspace.root))
    if kinds.get(prompt.kind).hints:
        raise UserError(f"{name}: asks about texts, not about clips, so it can't be tried on clips.")
    files, requests, unread = dict[str, str](), list[Request](), ""
    clips = context.split("train", "anchor", "test").by_id()
    for task in context.tasks(clips[: 4 * count], prompt, current_round(context.workspace)):
        if len(requests) == count:
            break
        try:
            clip = task.media() if task.media is not None else None
        except MediaError as error:
            unread = str(error)
            continue
        files[task.clip_id] = task.uri
        requests.append(Request(key=task.clip_id, clip=clip, prompt=task.prompt))
    if not requests:
        raise UserError(f"prompts try: no clip can be read ({unread}). 'flywheel rejects' lists what failed.")
    sampling = Asking.of(context.config.annotate, prompt).sampling
    with context.writer(prompt, writer_of(context)) as writer:
        writer.check()
        asked = {request.key: request.prompt for request in requests}
        for result in writer.engine(lambda: iter(requests), sampling).generate(iter(requests), sampling):
            key = result.key
            yield TriedReply(clip_id=key, file=files[key], asked=asked[key], reply=result.text, finish=result.finish)

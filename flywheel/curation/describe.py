"""What is seen and what is heard, described apart: the one never from the other's input."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from functools import partial

from annotators.asking import ask
from annotators.tasks import Asking, AskResult, Task
from annotators.writer import Writer
from flywheel import kinds
from flywheel.core.errors import UserError
from flywheel.core.types import Clip
from flywheel.models.inputs import ClipInput
from flywheel.models.prompt import Evidence, Prompt
from flywheel.store import Workspace

#: Gives a clip's frames, its sound, or both, as the names say. Raises MediaError where it can't.
Media = Callable[[Clip, Collection[str]], ClipInput]


def describe(
    workspace: Workspace,
    clips: Iterable[Clip],
    prompt: Prompt,
    writer: Writer,
    *,
    media: Media,
    key_parts: Callable[[Clip], tuple[object, ...]],
    round: int,
    asking: Asking,
    limit: int | None = None,
    retry: bool = False,
) -> AskResult:
    """Write the text of the prompt's kind (``seen``, ``heard``) for each clip that has none in the round.

    ``media`` is asked for what the kind is made from alone, and the prompt shows nothing else. ``key_parts`` is what
    decides on a clip's media; it is part of its generation's key. The caller holds the lock; all else is as
    :func:`annotators.asking.ask` has it. Raises UserError for a kind that is made from more than one medium.
    """
    inputs = kinds.get(prompt.kind).inputs
    if inputs is None or len(inputs) != 1:
        raise UserError(f"prompt '{prompt.name}': a {prompt.kind} is no description of frames or of sound alone.")
    return ask(
        workspace,
        _tasks(clips, prompt, media, key_parts, inputs),
        writer,
        prompt,
        round=round,
        asking=asking,
        limit=limit,
        retry=retry,
        total=len(clips) if isinstance(clips, Sized) else None,
    )


def _tasks(
    clips: Iterable[Clip],
    prompt: Prompt,
    media: Media,
    key_parts: Callable[[Clip], tuple[object, ...]],
    inputs: Collection[str],
) -> Iterator[Task]:
    text = prompt.render(Evidence())
    for clip in clips:
        yield Task(
            clip_id=clip.id,
            uri=clip.uri,
            duration_s=clip.duration_s,
            key_parts=key_parts(clip),
            prompt=text,
            media=partial(media, clip, frozenset(inputs)),
        )

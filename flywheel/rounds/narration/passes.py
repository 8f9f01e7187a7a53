"""The passes over videos: eyes and ears shot by shot, then one narrator fuses, checks, takes out repeats and tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotators.asking import ask
from annotators.tasks import Asking, AskResult, Task
from annotators.writer import Writer
from flywheel.core.types import content_id
from flywheel.curation.describe import describe
from flywheel.models.prompt import Prompt
from flywheel.rounds.context import RoundContext
from flywheel.rounds.names import narration_prompts_of
from flywheel.rounds.narration.rows import film_row
from flywheel.rounds.narration.shots import Film
from flywheel.rounds.narration.telling import MOST_LEVELS, Asked, Telling


@dataclass(kw_only=True)
class Narrated:
    """What was asked now, by kind of text, and one row a video (:func:`flywheel.rounds.narration.rows.film_row`)."""

    generated: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    films: list[dict[str, Any]] = field(default_factory=list)

    def note(self, kind: str, result: AskResult) -> None:
        """Add the counts of a pass."""
        for counts, count in (
            (self.generated, result.generated),
            (self.reused, result.reused),
            (self.rejected, result.rejected),
        ):
            counts[kind] = counts.get(kind, 0) + count


def narrate(context: RoundContext, films: Sequence[Film], round: int, *, retry_failed: bool = False) -> Narrated:
    """Have these videos told; what is on record is not asked for again. The caller holds the lock.

    What was rejected is left out, or with ``retry_failed`` asked again, with other sampling. One engine at a time is
    up: ears, eyes, then the narrator. Raises ProofFailed, before a text is kept, where the model that is to hear does
    not.
    """
    prompts = {prompt.kind: prompt for prompt in narration_prompts_of(context.config, context.workspace.root)}
    passes = {kind: _asked(context, prompt) for kind, prompt in prompts.items()}
    for prompt in prompts.values():
        context.writer(prompt, 0).check()
    made, retry = Narrated(), context.workspace.ledger.count_retry(round) if retry_failed else 0
    for kind in ("heard", "seen"):
        for again in _tries(retry):
            made.note(kind, _describe(context, films, prompts[kind], round, again))

    def telling(film: Film) -> Telling:
        return Telling(context.workspace, film, passes, round, context.config.narrate.neighbours)

    for kinds in _by_role(prompts):
        with context.writer(prompts[kinds[0]], 0) as writer:
            for kind in kinds:
                for again in _tries(retry):
                    if kind != "narrative":
                        tasks = (task for film in films for task in telling(film).tasks(kind))
                        made.note(kind, _ask(context, tasks, writer, prompts[kind], round, again))
                        continue
                    _tell(context, [telling(film) for film in films], writer, prompts[kind], round, made, again)
    made.films = [film_row(telling(film), context.workspace) for film in films]
    return made


def _tries(retry: int) -> tuple[int, ...]:
    """The passes of a kind: of what was rejected, where that is to be tried for the ``retry``-th time, and of all."""
    return (retry, 0) if retry else (0,)


def _asked(context: RoundContext, prompt: Prompt) -> Asked:
    digests = context.asked_model(prompt, 0).digests()
    return Asked(prompt=prompt, digest=content_id(*digests, prompt.digest))


def _by_role(prompts: dict[str, Prompt]) -> list[list[str]]:
    """The kinds that are made of texts, in their order; those that follow each other and ask one model together."""
    groups = list[list[str]]()
    for kind in ("fused", "consistency", "redundancy", "narrative"):
        if not groups or prompts[groups[-1][0]].role != prompts[kind].role:
            groups.append([])
        groups[-1].append(kind)
    return groups


def _describe(context: RoundContext, films: Sequence[Film], prompt: Prompt, round: int, retry: int) -> AskResult:
    wants_sound = "sound" in context.inputs_of(prompt)
    clips = [clip for film in films for clip in film.shots if clip.has_audio or not wants_sound]
    context.sounds(anew=True)
    with context.writer(prompt, 0) as writer:
        return describe(
            context.workspace,
            clips,
            prompt,
            writer,
            media=context.reader,
            key_parts=lambda clip: context.key_parts(clip, prompt),
            round=round,
            asking=Asking.of(context.config.annotate, prompt, retry=retry),
            retry=bool(retry),
        )


def _ask(
    context: RoundContext, tasks: Iterable[Task], writer: Writer, prompt: Prompt, round: int, retry: int
) -> AskResult:
    asking = Asking.of(context.config.annotate, prompt, retry=retry)
    return ask(context.workspace, tasks, writer, prompt, round=round, asking=asking, retry=bool(retry))


def _tell(
    context: RoundContext,
    tellings: Sequence[Telling],
    writer: Writer,
    prompt: Prompt,
    round: int,
    made: Narrated,
    retry: int,
) -> None:
    """Have each video told from its shots' texts, and what was told in pieces told once more from these."""
    for _ in range(MOST_LEVELS):
        open_tasks = [task for telling in tellings for task in _open(telling)]
        if not open_tasks:
            return
        result = _ask(context, open_tasks, writer, prompt, round, retry)
        made.note("narrative", result)
        if not result.written:
            return


def _open(telling: Telling) -> Iterator[Task]:
    """What is still to be asked of a narrative."""
    levels = list(telling.levels())
    if levels and isinstance(levels[-1][1], str):
        yield from (task for task, _ in levels[-1][0])

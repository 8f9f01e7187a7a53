"""What a configuration names, against what there is: prompts, models, engines, stages, hints, signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from annotators import engines, prompt_file
from annotators.selection import SELECTIONS
from flywheel import kinds
from flywheel.core.config import MAIN, Config
from flywheel.core.config.sections import Rounds
from flywheel.core.errors import UserError
from flywheel.core.types import CURATE, REPAIR
from flywheel.curation.repair.planners import planner, role_of
from flywheel.models.prompt import HINTS, Prompt, load_prompt
from human_refine import signals

if TYPE_CHECKING:
    from noise_control import TokenLoss


#: Roles of the bundled prompts of 'flywheel narrate', which no round asks.
_TELLING = ("eyes", "ears", "narrator")


def prompts_of(config: Config, root: Path) -> list[Prompt]:
    """The prompts of a round, the caption's first; files are looked for below ``root``.

    Raises UserError for a file that is no prompt, a first one that asks for no caption, and two of one kind.
    """
    prompts = [load_prompt(prompt_file(name, root)) for name in (config.annotate.prompt, *config.annotate.also)]
    if prompts[0].kind != "caption":
        raise UserError(
            f"annotate.prompt: '{prompts[0].name}' asks for {prompts[0].kind}, not a caption. Name it in annotate.also."
        )
    forms = [prompt.kind for prompt in prompts]
    if len(set(forms)) < len(forms):
        raise UserError(
            f"annotate.also: two prompts of one kind ({', '.join(forms)}). A clip has one text of each kind in a round."
        )
    if of_texts := next((p for p in prompts if kinds.get(p.kind).hints), None):
        raise UserError(
            f"annotate.also: '{of_texts.name}' asks about texts, not about clips. Take it out: the judge is asked "
            "where clips are curated."
        )
    return prompts


def curation_prompts_of(config: Config, root: Path) -> list[Prompt]:
    """The prompts of what is seen, heard and judged where clips are curated; empty where no judge is to be asked.

    Raises UserError for one that asks for another kind of text.
    """
    if config.curate.judge == "never":
        return []
    found = []
    for name, kind in zip(config.curate.prompts, ("seen", "heard", "judgement"), strict=True):
        prompt = load_prompt(prompt_file(name, root))
        if prompt.kind != kind:
            raise UserError(f"curate.prompts: '{name}' asks for {prompt.kind}. Name prompts of seen, heard, judgement.")
        found.append(prompt)
    return found


def fact_prompts_of(config: Config, root: Path) -> list[Prompt]:
    """The prompts that take texts apart and compare them; empty where no judge is to be asked.

    Raises UserError for one that asks for another kind of text.
    """
    if not config.evaluate.judges:
        return []
    found = [load_prompt(prompt_file(name, root)) for name in config.evaluate.fact_prompts]
    for prompt, kind in zip(found, ("facts", "verdicts"), strict=True):
        if prompt.kind != kind:
            raise UserError(
                f"evaluate.fact_prompts: '{prompt.name}' asks for {prompt.kind}. Name a prompt of facts, and one of "
                "verdicts."
            )
    return found


def narration_prompts_of(config: Config, root: Path) -> list[Prompt]:
    """The prompts that videos are told by, in the order of the passes. Raises UserError for one of another kind."""
    kinds_in_order = ("seen", "heard", "fused", "consistency", "redundancy", "narrative")
    found = []
    for name, kind in zip(config.narrate.prompts, kinds_in_order, strict=True):
        prompt = load_prompt(prompt_file(name, root))
        if prompt.kind != kind:
            raise UserError(
                f"narrate.prompts: '{name}' asks for {prompt.kind}. Name prompts of {', '.join(kinds_in_order)}."
            )
        found.append(prompt)
    return found


def question_prompt_of(config: Config, root: Path) -> Prompt:
    """The prompt that puts questions to be answered from a text alone. Raises UserError for one of another kind."""
    prompt = load_prompt(prompt_file(config.evaluate.question_prompt, root))
    if prompt.kind != "answers":
        raise UserError(f"evaluate.question_prompt: '{prompt.name}' asks for {prompt.kind}. Name a prompt of answers.")
    return prompt


def check_names(config: Config, prompts: Sequence[Prompt]) -> None:
    """Check what the configuration names against what there is; only stages are imported.

    ``prompts`` are all that may be asked. Raises UserError with the key and the nearest name.
    """
    for role, model in config.models.items():
        _check(f"models.{role}.engine", engines.check, [model.engine])
    _check("review.order", signals.SIGNALS.check, config.review.order)
    hints = [hint for hint in HINTS if hint in ("transcript", "sounds", "previous")]
    learnable = ["caption", *(name for name in kinds.names() if kinds.get(name).turns is not None)]
    for key, names, known in (
        ("pretrain.kinds", tuple(config.pretrain.kinds), learnable),
        ("annotate.hints", config.annotate.hints, hints),
        ("annotate.select", (config.annotate.select,), list(SELECTIONS)),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"{key}: '{name}' is unknown. There are {', '.join(known)}.")
    _check_stages(config)
    _check_roles(config, prompts)


def check_optimizer(config: Config) -> None:
    """Check that pretraining's optimizer goes with the model's precision on this machine. Raises UserError."""
    if config.pretrain.optimizer in ("adamw", "adamw_sr", "adamw_8bit") and config.pretrain.method == "full":
        import trainers

        trainers.check_optimizer(config.pretrain.optimizer, config.main.precision)


def loss_of(config: Config) -> TokenLoss:
    """The configured loss of pretraining, new. Raises UserError for an unknown one and for values out of range."""
    from noise_control import losses

    try:
        return losses.build(config.loss.name, **config.loss.arguments)
    except ValueError as error:
        raise UserError(f"loss.arguments: {error}") from error


def _check(key: str, check: Callable[[str], None], names: Iterable[str]) -> None:
    for name in names:
        try:
            check(name)
        except UserError as error:
            raise UserError(f"{key}: {error}") from error


def _check_stages(config: Config) -> None:
    """Another package's stage has a section of its own name, so it can't have one of ours."""
    for name in config.rounds.stages:
        if name in Config.model_fields and name not in (REPAIR, CURATE, *Rounds().stages):
            raise UserError(f"rounds.stages: '{name}' is a section of the configuration. Give the stage another name.")


def _check_roles(config: Config, prompts: Sequence[Prompt]) -> None:
    plans = {_planner_role(config)} - {""}
    reads = {config.evaluate.reader} if config.evaluate.questions else set()
    asked = {prompt.role for prompt in prompts} | set(config.evaluate.judges) | plans | reads
    for role in sorted(asked - config.models.keys()):
        names = ", ".join(prompt.name for prompt in prompts if prompt.role == role)
        by = f"prompt {names}" if names else "repair.planner" if role in plans else "evaluate.judges"
        raise UserError(f"models.{role}: is missing, and {by} asks for it. Name its folder and engine there.")
    unasked = sorted(config.models.keys() - asked - {MAIN, *_TELLING} - _roles_of_stages(config))
    if unasked:
        raise UserError(
            f"models.{unasked[0]}: no prompt in annotate.prompt or annotate.also asks for it "
            f"(`model: {unasked[0]}`), and curate.judge is {config.curate.judge}. Name such a prompt, or remove the "
            "model."
        )


def _planner_role(config: Config) -> str:
    try:
        return role_of(planner(config.repair.planner))
    except UserError as error:
        raise UserError(f"repair.planner: {error}") from error


def _roles_of_stages(config: Config) -> set[str]:
    # Stages know the context, which checks names.
    from flywheel.rounds import stages

    return {role for name in config.stages for role in stages.stage_of(name).roles}

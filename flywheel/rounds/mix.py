"""Which texts of a clip a round learns: people's, else the chosen source's with older ones; and other kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from flywheel.core.config import Pretrain
from flywheel.core.types import CAPTION, HUMAN, Annotation, Example
from flywheel.models.prompt import Evidence
from flywheel.rounds.context import CLIPS_PER_LOOKUP, RoundContext
from flywheel.rounds.questions_taught import QuestionsTaught
from flywheel.rounds.texts import CurrentTexts, HumanText, SourceChoice


def training_examples(
    context: RoundContext, texts: CurrentTexts, choice: SourceChoice, round: int
) -> Iterator[Example]:
    """Of each train clip what people made of its text; else the chosen source's, with older ones beside it.

    A clip that has neither teaches what came with its video. Texts of other kinds that ``pretrain.kinds`` names are
    learned beside captions. Gold clips teach nothing.
    """
    plan = context.config.pretrain
    taught = QuestionsTaught(context.workspace, texts, choice, plan)
    rounds = (choice.round, *reversed(older_rounds(choice, plan)))
    refused = {text.annotation.id for text in texts.rejected()}
    stream = context.with_evidence(context.split("train"), round)
    while some := list(islice(stream, CLIPS_PER_LOOKUP)):
        some = [(clip, hints) for clip, hints in some if clip.id not in texts.gold]
        ids = [clip.id for clip, _ in some]
        captions = {r: texts.of(r, ids) for r in dict.fromkeys((*rounds, 0))}
        of_kinds = taught.of(ids)
        for clip, hints in some:
            human = texts.human.get(clip.id)
            if human is not None and human.text is not None:
                of_captions = [human_example(clip.id, human, hints, plan.human_weight)]
            else:
                of_captions = list(_machine_examples(_sources(clip.id, rounds, captions, refused), hints, plan))
            yield from _shared({CAPTION: of_captions, **of_kinds.get(clip.id, {})}, plan.kinds)


def _shared(examples: Mapping[str, list[Example]], shares: Mapping[str, float]) -> Iterator[Example]:
    """A clip's examples, each kind with its part of the clip's epochs."""
    whole = sum(shares[kind] for kind, of_kind in examples.items() if of_kind)
    for kind, of_kind in examples.items():
        part = shares[kind] / whole if of_kind else 0.0
        yield from (replace(e, share=e.share * part) if part != 1.0 else e for e in of_kind)


def human_example(clip_id: str, human: HumanText, evidence: Evidence, weight: float = 1.0) -> Example:
    """The example that a person's text is; ``human.text`` must not be None."""
    assert human.text is not None
    return Example(
        clip_id=clip_id,
        text=human.text,
        prompt_texts=evidence.model_dump(),
        group=HUMAN,
        annotation_id=human.annotation_id,
        weight=weight * human.agreement,
    )


def _sources(
    clip_id: str, rounds: tuple[int, ...], captions: Mapping[int, Mapping[str, Annotation]], refused: set[str]
) -> dict[int, Annotation]:
    """The clip's texts by round, the chosen source's first; those that people rejected are left out."""
    sources = {
        r: caption for r in rounds if (caption := captions[r].get(clip_id)) is not None and caption.id not in refused
    }
    given = captions[0].get(clip_id)
    if not sources and given is not None and given.id not in refused:
        return {0: given}
    return sources


def _machine_examples(sources: dict[int, Annotation], evidence: Evidence, plan: Pretrain) -> Iterator[Example]:
    # Where two sources have the same text, it is the newest that is named.
    different = {caption.text: (r, caption) for r, caption in reversed(sources.items())}
    first = next(iter(sources), None)
    for origin, caption in different.values():
        if len(different) == 1:
            share = 1.0
        elif origin == first:
            share = 1 - plan.older_share
        else:
            share = plan.older_share / (len(different) - 1)
        yield Example(
            clip_id=caption.clip_id,
            text=caption.text,
            prompt_texts=evidence.model_dump(),
            annotation_id=caption.id,
            share=share,
            group=f"{caption.source}:{origin}:{caption.kind}",
        )


def older_rounds(choice: SourceChoice, plan: Pretrain) -> tuple[int, ...]:
    """The older sources of a mix, the oldest first: what came with the videos, and the newest of the others."""
    if plan.mix == "replace" or not plan.older_share:
        return ()
    if len(choice.older) <= plan.older_rounds:
        return choice.older
    given, written = [r for r in choice.older if r == 0], [r for r in choice.older if r]
    return (*given, *written[len(written) - (plan.older_rounds - len(given)) :])

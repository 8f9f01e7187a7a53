"""The stages of a round. Each takes the context and the round, does its work once, and returns what goes on record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from flywheel.core.config import Pretrain
from flywheel.core.errors import MediaError
from flywheel.core.progress import say
from flywheel.core.types import (
    CAPTION,
    HUMAN,
    LEARN,
    MEASURE,
    Clip,
    Correction,
    Estimate,
    Example,
    NoiseSignal,
    Stage,
    content_id,
    standing,
)
from flywheel.metrics import diversity, mean_estimate, quantity, reference_quality
from flywheel.metrics.scale import corpus_figures
from flywheel.models.embed import clip_embeddings
from flywheel.models.prompt import Evidence
from flywheel.models.score import mean_logprobs
from flywheel.rounds.annotate import costs, write_texts
from flywheel.rounds.champion import freeze, put_in_force, tested, writer_of
from flywheel.rounds.context import RoundContext
from flywheel.rounds.texts import SourceChoice, Texts
from flywheel.rounds.watch import alarms_of, watched
from flywheel.rounds.writer import Writer
from flywheel.store.records import SCHEMAS
from human_refine.effort import effort
from human_refine.gold import gold_texts
from human_refine.people import heard

if TYPE_CHECKING:
    import trainers

Result = dict[str, Any]


#: Where the running stage's round, name and beginning stand (meta).
STAGE_BEGAN = "stage_began"


class Waiting(Exception):
    """The round can't go on yet; the message says what it waits for."""


def annotate(context: RoundContext, round: int, limit: int | None = None, retry_failed: bool = False) -> Result:
    """The champion writes captions, and texts of the other kinds asked for, for train and anchor clips; with ``retry_failed`` for those alone that were rejected."""
    by = writer_of(context)
    clips = context.split("train", "anchor")
    retry = 0
    if retry_failed:
        retry = int(context.workspace.meta(f"retries:{round}") or 0) + 1
        context.workspace.set_meta(f"retries:{round}", str(retry))
    with Writer(context, by) as writer:
        done = write_texts(context, clips, by=by, round=round, writer=writer, limit=limit, retry=retry)
        also = {}
        for prompt in context.also:
            more = write_texts(
                context, clips, by=by, round=round, prompt=prompt, writer=writer, limit=limit, retry=retry
            )
            also[prompt.kind] = {**asdict(more), "costs": costs(context, round, prompt.kind)}
    if "novelty" in context.config.review.order:
        embed(context)
    have = context.workspace.annotations(round=round, kind=CAPTION, purpose=LEARN).height
    whole = corpus_figures(
        context.workspace.records.files("annotations", round=round), segment_tokens=context.config.evaluate.diversity_tokens, where={"kind": CAPTION, "purpose": LEARN},
        score="mean_logprob",
    )  # fmt: skip
    corpus = {**whole.quantity, **{k: asdict(v) for k, v in (whole.diversity | whole.quality).items()}}
    del corpus["hours"]
    prompts = {p.name: f"{p.version}:{p.digest}" for p in [context.prompt, *context.also]}
    return {
        "by": by,
        "prompts": prompts,
        "annotations": have,
        **asdict(done),
        "costs": costs(context, round, CAPTION),
        "also": also,
        "corpus": corpus,
    }


def embed(context: RoundContext) -> int:
    """The base model's points of all train clips that have none; returns how many were made. A clip that can't be read has none."""
    workspace = context.workspace
    todo = sorted(context.split("train"), key=lambda c: c.id)
    vlm = context.load(context.base)
    ids = {c.id: content_id("embedding", c.id, vlm.digest, context.picture_spec()) for c in todo}
    known = workspace.records.known("embeddings", ids.values())
    todo, made = [c for c in todo if ids[c.id] not in known], 0
    builder = context.builder(vlm.processor)
    prompt = context.prompt.render(Evidence())
    for start in range(0, len(todo), 256):
        pictures = []
        for clip in todo[start : start + 256]:
            try:
                pictures.append(context.picture(clip.id))
            except MediaError:
                # It is among the rejected of this stage already.
                continue
        vectors = clip_embeddings(vlm, builder, pictures, prompt)
        rows = [
            {"id": ids[p.key], "clip_id": p.key, "model": vlm.digest, "vector": v.tolist()}
            for p, v in zip(pictures, vectors, strict=True)
        ]
        made += workspace.records.append("embeddings", rows)
    return made


def review(context: RoundContext, round: int) -> Result:
    """Wait, by policy, for corrections of this round's texts."""
    have, wanted = num_corrections(context, round), context.config.review.wait_for
    if have < wanted:
        raise Waiting(
            f"round {round} waits for {wanted - have} more corrections ({have} of {wanted}). "
            "Give them on the page that 'flywheel review' serves, or with 'flywheel corrections import FILE', and run the same command."
        )
    return {"num_corrections": have, **effort(context.workspace, round)}


def num_corrections(context: RoundContext, round: int) -> int:
    """What people said of a round's texts and still stands."""
    captions, gold = (
        context.workspace.annotations(round=round, kind=CAPTION, purpose=LEARN),
        gold_texts(context.workspace),
    )
    ids = {i for i, clip_id in captions.select("id", "clip_id").iter_rows() if clip_id not in gold}
    said: dict[str, list[Correction]] = {}
    for correction in heard(context.workspace):
        if correction.annotation_id in ids:
            said.setdefault(correction.annotation_id, []).append(correction)
    return sum(len(standing(corrections)) for corrections in said.values())


def pretrain(context: RoundContext, round: int) -> Result:
    """From the base, on the newest text of train clips, with the noise-robust loss."""
    import trainers

    config = context.config
    out = context.workspace.model_folder(round) / "model"
    if config.pretrain.num_steps == 0:
        return {"skipped": "pretrain.num_steps is 0"}
    if (done := _done(context, out, round)) is not None:
        return done
    texts = Texts(context.workspace)
    choice = texts.choose(round, config.gate.min_anchors, config.pretrain.texts)
    examples = training_examples(context, texts, choice, round)
    if not examples:
        return {"skipped": "no clip of the train split has a text"}
    kept, held_out = _hold_out(examples, config.pretrain.eval_share)
    start = context.base
    if config.pretrain.start == "previous" and context.workspace.champion() > 0:
        start = context.checkpoint(context.workspace.champion())[0]
    context.unload()
    vlm = context.load(start)
    anchors = [
        Example(clip_id=c, text=text, prompt_texts=_hints(context, texts, context.clips[c], round), group=HUMAN)
        for c, text in sorted(texts.anchors().items())
    ]
    adapts = context.loss().adapts
    if adapts and not anchors:
        say(
            f"pretrain: no corrected anchors, so {config.loss.name} can't tell noise and falls back to maximum likelihood."
        )
    sink = context.tracker.sink(round)
    result = trainers.pretrain(
        vlm, context.builder(vlm.processor), config.pretrain, config.loss, _training_set(context, kept), out,
        precision=config.pretrain.precision, sink=sink,
        held_out=_training_set(context, held_out) if held_out else None,
        human=_training_set(context, anchors) if anchors else None,
    )  # fmt: skip
    sink.flush()
    context.unload()
    _note_suspicion(context, round, kept, result.row_weight)
    return _finish(
        context, out, round,
        {
            "steps": result.steps, "loss": result.loss, "eval_loss": result.eval_loss, "examples": len(kept),
            "learned_from_round": choice.round, "older_rounds": list(_older(choice, config.pretrain)), "anchor_f1": {str(r): f for r, f in choice.anchor_f1.items()},
            "num_anchors": choice.num_anchors, "fell_back_to_mle": adapts and not anchors, **result.figures,
        },
        _learned("pretrain", kept, texts),
    )  # fmt: skip


def training_examples(context: RoundContext, texts: Texts, choice: SourceChoice, round: int) -> list[Example]:
    """Of each train clip what people made of it; else the chosen source's text and, where texts accumulate, the older ones beside it; else what came with it."""
    plan, examples = context.config.pretrain, []
    older = _older(choice, plan)
    refused = {text.annotation.id for text in texts.rejected()}
    for clip in context.split("train"):
        if clip.id in texts.gold:
            continue
        human = texts.human.get(clip.id)
        hints = _hints(context, texts, clip, round)
        if human is not None and human.text is not None:
            examples.append(
                Example(
                    clip_id=clip.id, text=human.text, prompt_texts=hints, group=HUMAN, annotation_id=human.annotation_id,
                    weight=plan.human_weight * human.agreement,
                )
            )  # fmt: skip
            continue
        found = {
            r: a
            for r in (choice.round, *reversed(older))
            if (a := texts.captions(r).get(clip.id)) is not None and a.id not in refused
        }
        if not found and (given := texts.captions(0).get(clip.id)) is not None and given.id not in refused:
            found = {0: given}
        # Where two said the same, it is the newest that is named.
        different = {a.text: (r, a) for r, a in reversed(found.items())}
        first = next(iter(found), None)
        for origin, annotation in different.values():
            if len(different) == 1:
                share = 1.0
            elif origin == first:
                share = 1 - plan.older_share
            else:
                share = plan.older_share / (len(different) - 1)
            examples.append(
                Example(
                    clip_id=clip.id, text=annotation.text, prompt_texts=hints, annotation_id=annotation.id, share=share,
                    group=f"{annotation.source}:{origin}:{annotation.kind}",
                )
            )  # fmt: skip
    return examples


def _older(choice: SourceChoice, plan: Pretrain) -> tuple[int, ...]:
    """The older sources of a mix, the oldest first."""
    if plan.mix == "replace" or not plan.older_share:
        return ()
    given, written = [r for r in choice.older if r == 0], [r for r in choice.older if r]
    return (
        (*given, *written[len(written) - (plan.older_rounds - len(given)) :])
        if len(choice.older) > plan.older_rounds
        else choice.older
    )


def _hints(context: RoundContext, texts: Texts, clip: Clip, round: int) -> dict[str, str | None]:
    return context.evidence(clip, texts, round).model_dump()


def _training_set(context: RoundContext, examples: list[Example]) -> trainers.TrainingSet:
    import trainers

    plan = context.config.pretrain
    rates: dict[Any, float] = {"transcript": plan.transcript_dropout, "previous": plan.previous_dropout}
    return trainers.TrainingSet(
        examples=examples, picture=context.picture, prompt=context.prompt, dropout=rates, seed=plan.seed
    )


def _hold_out(examples: list[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Part of the clips for the eval loss and to measure noise on; people's are too dear for that."""
    clips = {e.clip_id for e in examples}
    machine = list(dict.fromkeys(e.clip_id for e in examples if e.group != HUMAN))
    # Some sixty tell a noise rate to .06, which a small corpus can't have for 5 %; more than 512 tell hardly more.
    count = min(max(int(share * len(machine)), min(64, int(0.15 * len(machine)))), 512) if share else 0
    held = {machine[i] for i in np.random.default_rng(len(clips)).permutation(len(machine))[:count]}
    return [e for e in examples if e.clip_id not in held], [e for e in examples if e.clip_id in held]


def _note_suspicion(context: RoundContext, round: int, examples: list[Example], weights: Mapping[int, float]) -> None:
    """One minus the mean weight of a row's tokens: what the loss hardly listened to is worth a person's look."""
    signals = [
        NoiseSignal(annotation_id=examples[row].annotation_id, origin="loss weight", value=1.0 - weight)
        for row, weight in sorted(weights.items())
    ]
    context.workspace.add_noise_signals(signals, round)


def finetune(context: RoundContext, round: int) -> Result:
    """LoRA on the corrections of train clips, plain maximum likelihood."""
    import trainers

    config = context.config
    out = context.workspace.model_folder(round) / "adapter"
    if (done := _done(context, out, round)) is not None:
        return done
    texts = Texts(context.workspace)
    tune = [
        Example(
            clip_id=clip.id, text=human.text, prompt_texts=_hints(context, texts, clip, round), group=HUMAN,
            annotation_id=human.annotation_id, weight=human.agreement,
        )
        for clip in context.split("train")
        if (human := texts.human.get(clip.id)) is not None and human.text is not None
    ]  # fmt: skip
    if config.finetune.num_steps == 0 or len(tune) < config.finetune.min_corrections:
        return {
            "skipped": f"{len(tune)} tune corrections, {config.finetune.min_corrections} needed",
            "examples": len(tune),
        }
    context.unload()
    vlm = context.load(context.checkpoint(round)[0])
    sink = context.tracker.sink(round)
    result = trainers.finetune(
        vlm, context.builder(vlm.processor), config.finetune, _training_set(context, tune), out,
        precision=config.pretrain.precision, sink=sink,
    )
    sink.flush()
    context.unload()
    return _finish(
        context, out, round,
        {
            "steps": result.steps, "loss": result.loss, "examples": len(tune),
            "corrections": [c for e in tune for c in texts.human[e.clip_id].corrections],
        },
        _learned("finetune", tune, texts),
    )  # fmt: skip


def _done(context: RoundContext, out: Path, round: int) -> Result | None:
    """What a stage noted when its model was whole; killed after that, it need not train again."""
    note = out / "training.json"
    if not note.exists():
        return None
    if (out / "examples.parquet").exists():
        context.workspace.add_examples(pl.read_parquet(out / "examples.parquet").to_dicts(), round)
    return json.loads(note.read_text())  # type: ignore[no-any-return]


def _finish(context: RoundContext, out: Path, round: int, result: Result, learned: list[dict[str, Any]]) -> Result:
    """Notes beside the weights first what they learned from, then that they are whole; the records follow, if need be after a kill."""
    temporary = out / "note.tmp"
    pl.DataFrame(
        learned, schema={c: t for c, t in SCHEMAS["examples"].items() if c not in ("id", "round")}
    ).write_parquet(temporary)
    temporary.replace(out / "examples.parquet")
    temporary.write_text(json.dumps(result))
    temporary.replace(out / "training.json")
    context.workspace.add_examples(learned, round)
    shutil.rmtree(out.with_name(out.name + ".work"), ignore_errors=True)
    return result


def _learned(stage: Stage, examples: Sequence[Example], texts: Texts) -> list[dict[str, Any]]:
    """What a stage learned from, row by row with the corrections behind it; and of its clips the texts that people rejected, the negatives."""
    rows = []
    for example in examples:
        human = texts.human.get(example.clip_id) if example.group == HUMAN else None
        rows.append(_use(stage, example.clip_id, example.annotation_id, example.group, "learned", example.weight * example.share, example.text,
                         human.corrections if human is not None else ()))  # fmt: skip
    for text in texts.rejected():
        if texts.split(text.annotation.clip_id) == "train":
            a = text.annotation
            rows.append(
                _use(
                    stage, a.clip_id, a.id, f"{a.source}:{a.round}:{a.kind}", "rejected", 0.0, a.text, text.corrections
                )
            )
    return rows


def _use(
    stage: Stage,
    clip_id: str,
    annotation_id: str,
    source: str,
    use: str,
    weight: float,
    text: str,
    corrections: Sequence[str],
) -> dict[str, Any]:
    return {
        "stage": stage, "clip_id": clip_id, "annotation_id": annotation_id, "source": source, "use": use, "weight": weight,
        "text_hash": content_id(text), "corrections": list(corrections),
    }  # fmt: skip


def evaluate(context: RoundContext, round: int) -> Result:
    """M_round's texts on the test split and on corrected anchors, and their figures."""
    settings, workspace = context.config.evaluate, context.workspace
    texts = Texts(workspace)
    anchors = texts.anchors()
    clips = [*context.split("test"), *(context.clips[c] for c in sorted(anchors))]
    write_texts(context, clips, by=round, round=round, purpose=MEASURE)
    said = {r["clip_id"]: r["text"] for r in workspace.annotations(round=round, purpose=MEASURE).iter_rows(named=True)}
    test = [c for c in context.split("test") if c.id in said]
    figures = trinity(context, [said[c.id] for c in test], test)
    figures["quality"].update(
        {
            f"anchor_{name}": asdict(value)
            for name, value in reference_quality(
                [said.get(c, "") for c in sorted(anchors)],
                [anchors[c] for c in sorted(anchors)],
                resamples=settings.resamples,
            ).items()
        }
        if anchors
        else {}
    )
    if settings.agreement_pairs and test:
        figures["quality"]["agreement"] = asdict(
            _agreement(context, texts, test[: settings.agreement_pairs], said, round)
        )
    figures["watch"] = {name: asdict(value) for name, value in watched(context, round).items()}
    return figures


def trinity(context: RoundContext, texts: list[str], clips: list[Clip]) -> Result:
    """Quantity and diversity of these texts, as plain values for the records."""
    settings = context.config.evaluate
    varied = diversity(
        texts, segment_tokens=settings.diversity_tokens, resamples=settings.resamples, seed=settings.seed
    )
    return {
        "quantity": quantity(texts, [c.duration_s for c in clips]),
        "diversity": {name: asdict(value) for name, value in varied.items()},
        "quality": {},
    }


def _agreement(context: RoundContext, texts: Texts, clips: list[Clip], said: Mapping[str, str], round: int) -> Estimate:
    """Base model's mean log-likelihood (nats per token) of each text with its own clip minus with another's, without hints."""
    vlm = context.load(context.base)
    builder = context.builder(vlm.processor)
    pictures = [context.picture(c.id) for c in clips]
    prompts = [
        context.prompt.render(context.evidence(c, texts, round).without("transcript", "previous")) for c in clips
    ]
    words = [said[c.id] for c in clips]
    own = mean_logprobs(vlm, builder, pictures, prompts, words)
    others = mean_logprobs(vlm, builder, [*pictures[1:], pictures[0]], [*prompts[1:], prompts[0]], words)
    return mean_estimate(own - others, resamples=context.config.evaluate.resamples)


def gate(context: RoundContext, round: int) -> Result:
    """The candidate against the champion on the corrected anchors; promoted only where it is shown to be better (:mod:`flywheel.rounds.gate`)."""
    workspace = context.workspace
    rows = workspace.champions()
    if rows and rows[-1]["round"] == round and "judgement" in rows[-1]:
        # Killed between the promotion and the note of it.
        return {"against": rows[-1]["against"], **rows[-1]["judgement"]}
    champion = workspace.champion()
    judgement = tested(context, round)
    alarms = alarms_of([_watch_of(context, r) for r in range(round + 1)])
    for alarm in alarms:
        say(f"watch: {alarm['reason']}")
    if alarms and context.config.gate.on_alarm == "refuse" and judgement.verdict == "promoted":
        judgement = replace(
            judgement, verdict="refused", reason=f"the watch sees {alarms[0]['reason']} (gate.on_alarm)"
        )
    freeze(context, round)
    if judgement.verdict == "promoted":
        put_in_force(
            context, round, judgement.reason, judgement={**judgement.record(), "alarms": alarms}, against=champion
        )
    else:
        context.tracker.candidate(round)
    return {"against": champion, **judgement.record(), "alarms": alarms}


def _watch_of(context: RoundContext, round: int) -> dict[str, Estimate]:
    return {
        name: Estimate(**value)
        for name, value in context.workspace.stage(round, "evaluate")[1].get("watch", {}).items()
    }


STAGES: dict[Stage, Callable[[RoundContext, int], Result]] = {
    "annotate": annotate,
    "review": review,
    "pretrain": pretrain,
    "finetune": finetune,
    "evaluate": evaluate,
    "gate": gate,
}

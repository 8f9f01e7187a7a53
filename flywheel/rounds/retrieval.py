"""Retrieval as a measure of texts: small encoders that learn from them, and what those find by people's words.

Video DataFlywheel's own claim is that better texts retrieve better (text -> video). The encoders are alike but for the
texts that they learn from; what they are asked for are anchor clips by people's words, which nothing learned from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.config import Retrieve
from flywheel.core.errors import MediaError
from flywheel.core.progress import say
from flywheel.core.reading import Reading
from flywheel.core.types import Clip, Estimate
from flywheel.metrics.intervals import mean_estimate
from flywheel.metrics.retrieval import places
from flywheel.models import encoders
from flywheel.models.encoders import Encoder
from flywheel.rounds.context import RoundContext
from flywheel.rounds.encoder_clips import ClipReader, TextsOf, TrainClips, sides, training_plan
from flywheel.store.clip_index import ClipView
from trainers.contrastive import OtherTraining, train_encoder

#: The arms beside the round's own texts: those of round 0, and as many clips drawn at random where curation chose.
FIRST, RANDOM = "round 0", "random"


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """Recall@1 of the round's texts, and by how much it is above that of each other arm (paired by query).

    Nothing is in it where too few anchors have people's words; ``asked`` says how many had.
    """

    asked: int = 0
    chance: float = 0.0
    recall: Estimate | None = None
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    learned: Mapping[str, int] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Retrieved:
        """From what :meth:`to_record` gave."""
        recall = record.get("recall")
        return cls(
            asked=record.get("asked", 0),
            chance=record.get("chance", 0.0),
            recall=Estimate(**recall) if recall else None,
            gains={name: Estimate(**gain) for name, gain in record.get("gains", {}).items()},
            learned=record.get("learned", {}),
        )


def retrieve(context: RoundContext, round: int) -> Retrieved:
    """Train an encoder an arm, and ask each for the anchors; killed and called again it goes on."""
    settings = context.config.retrieve
    words = context.texts().anchors()
    anchors = [clip for clip in context.split("anchor") if clip.id in words]
    if len(anchors) < settings.least:
        say(f"retrieve: {len(anchors)} anchors have people's words, and it takes {settings.least}: not measured")
        return Retrieved(asked=len(anchors))
    anchors, pictures = read_anchors(context, anchors)
    if len(anchors) < settings.least:
        say(f"retrieve: {len(anchors)} anchors of these can be read, and it takes {settings.least}: not measured")
        return Retrieved(asked=len(anchors))
    folder, hits = context.workspace.root / "models" / f"round={round:03d}" / "retrieve", {}
    learned: dict[str, int] = {}
    for arm, clips, texts_of in _arms(context, round):
        encoder = trained_on(context, clips, texts_of, folder / arm.replace(" ", "-"), settings)
        learned[arm] = len(clips)
        hits[arm] = found_first(encoder, pictures, [words[clip.id] for clip in anchors])
    own, *others = hits
    result = Retrieved(
        asked=len(hits[own]),
        chance=1 / max(1, len(hits[own])),
        recall=mean_estimate(hits[own]),
        gains={arm: mean_estimate(hits[own] - hits[arm]) for arm in others},
        learned=learned,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _arms(context: RoundContext, round: int) -> Iterator[tuple[str, ClipView, TextsOf]]:
    """The round's own texts first, then what they are compared with: name, clips, and the clips' texts."""
    train, current = context.split("train"), context.texts()

    def of_round(number: int) -> TextsOf:
        return lambda clips: {i: a.text for i, a in current.of(number, [clip.id for clip in clips]).items()}

    yield f"round {round}", train, of_round(round)
    if round > 0 and 0 in current.rounds:
        yield FIRST, train, of_round(0)
    every = context.to_curate().of("train")
    if len(every) > len(train):
        ids = every.columns("id")["id"].sample(len(train), seed=context.config.index.seed)
        before, now = of_round(0), of_round(round)
        # Those that were dropped have what came with them alone.
        yield RANDOM, every.with_ids(ids), lambda clips: {**before(clips), **now(clips)}


def trained_on(context: RoundContext, clips: ClipView, texts_of: TextsOf, folder: Path, settings: Retrieve) -> Encoder:
    """An encoder of pictures and words that learned from these; called again with this folder it goes on."""
    index, encoder = context.config.index, _untrained(context)
    reading = Reading("retrieve", context.config.corpus.most_unreadable)
    learned, validates = (
        TrainClips(context.workspace, encoder, side, index.batch, reading, texts_of, sound=False)
        for side in sides(clips)
    )
    plan = training_plan(index, settings.steps)
    try:
        train_encoder(encoder, learned, validates, folder, plan)
    except OtherTraining:
        # What was begun with other settings measures nothing.
        shutil.rmtree(folder)
        train_encoder(encoder, learned, validates, folder, plan)
    return encoder


def _untrained(context: RoundContext) -> Encoder:
    index = context.config.index
    torch.manual_seed(index.seed)
    # Sounds bridge words and pictures, whatever the words are worth; here the words are what is measured.
    # The sizes of another encoder say nothing of this one, and nothing but the words is to help.
    sizes = index.sizes if index.encoder == "trimodal" else {}
    return encoders.build("trimodal", **{**sizes, "local_weight": 0.0, "fused_weight": 0.0})


def read_anchors(context: RoundContext, anchors: Sequence[Clip]) -> tuple[list[Clip], NDArray[np.uint8]]:
    """Those that can be read, and what encoders see of them (n, T, S, S, 3): some 50 KB each, of clips people wrote of.

    They are read once: all arms are asked for the same ones.
    """
    encoder = _untrained(context)
    reader, there, pictures = ClipReader(context.workspace, encoder, kept=True), [], []
    for clip in anchors:
        try:
            with one_item():
                pictures.append(encoder.read_video(reader.frames(clip)[None]).numpy())
        except MediaError:
            # The stages before said so.
            continue
        there.append(clip)
    side = encoder.frame_size
    return there, np.concatenate([np.zeros((0, encoder.frames, side, side, 3), np.uint8), *pictures])


def found_first(encoder: Encoder, pictures: NDArray[np.uint8], words: Sequence[str]) -> NDArray[np.float64]:
    """Of each anchor whether its words find it first (n,); ``pictures`` (n, T, S, S, 3) are theirs."""
    videos = [encoder.embed_video(one[None]).numpy()[0] for one in pictures]
    similarity = encoder.embed_text(words).numpy() @ np.stack(videos).T
    return places(similarity, np.arange(len(words))).recalls(1)

"""What of a group of clips becomes vectors: read, embedded, and as records; what can't be is that clip's reject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.core.border import is_of_one_item, one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import Clip, content_id
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Embedder, Modality
from flywheel.rounds.encoder_clips import ClipReader
from flywheel.store.vectors import vector_row

#: Modality -> what the encoder reads of a clip; and why the rest can't be read.
Read = tuple[Mapping[Modality, torch.Tensor], str]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A clip with what of it has no vector yet."""

    clip: Clip
    text: str
    #: How many vectors of texts the clip has; one that has some and no text now had another.
    number: int
    missing: frozenset[Modality]
    #: The version of the sound that is read, and how many vectors of sounds the clip has where it can have others.
    version: str = ""
    sounds: int = 0


def content_of(modality: Modality, text: str) -> str:
    """What a vector is of, where a clip can have another: the hash of its text."""
    return content_id("text", text) if modality == TEXT else ""


def read_clip(reader: ClipReader, encoder: Embedder, wanted: Wanted) -> Read:
    """What the encoder reads of a clip, and why the rest can't be read; its text is there in any case."""
    values: dict[Modality, torch.Tensor] = {}
    if TEXT in wanted.missing and wanted.text:
        values[TEXT] = encoder.read_text([wanted.text])[0]
    try:
        with one_item():
            if VIDEO in wanted.missing:
                values[VIDEO] = reader.video(wanted.clip)
            if SOUND in wanted.missing:
                values[SOUND] = reader.sound(wanted.clip)
    except MediaError as error:
        return values, str(error)
    return values, ""


@torch.inference_mode()
def embedded(
    encoder: Embedder, model: str, group: Sequence[Wanted], read: Sequence[Read]
) -> tuple[list[dict[str, object]], list[str]]:
    """The records of a group's vectors, an empty one for each text that is gone; of each clip why it lacks some.

    Raises UserError for an encoder whose vectors are no numbers, whatever the clip.
    """
    gone = [wanted for wanted in group if TEXT in wanted.missing and not wanted.text]
    nothing = np.zeros(0, np.float32)
    rows = [vector_row(model, TEXT, wanted.clip.id, nothing, content_of(TEXT, ""), wanted.number) for wanted in gone]
    whys = [why for _, why in read]
    for name in encoder.modalities:
        places = [place for place, (values, _) in enumerate(read) if name in values]
        vectors, failures = _vectors(encoder, name, [read[place][0][name] for place in places])
        for place, vector, failure in zip(places, vectors, failures, strict=True):
            if not failure and not np.isfinite(vector).all():
                _check(encoder, model, name)
                failure = f"its vector of {name} is no number"
            if failure:
                whys[place] = whys[place] or failure
            else:
                rows.append(vector_row(model, name, group[place].clip.id, vector, *_of_which(name, group[place])))
    return rows, whys


def _vectors(
    encoder: Embedder, modality: Modality, values: Sequence[torch.Tensor]
) -> tuple[Sequence[NDArray[np.float32]], list[str]]:
    """The vectors of these, and why one has none. What fails together is tried one by one."""
    if not values:
        return [], []
    try:
        return list(encoder.vectors_of_each(modality, values).numpy()), [""] * len(values)
    except Exception as error:
        if not is_of_one_item(error):
            raise
    vectors, failures = [], []
    for value in values:
        try:
            with one_item(f"has no vector of {modality}"):
                vectors.append(encoder.vectors_of_each(modality, [value]).numpy()[0])
                failures.append("")
        except MediaError as error:
            vectors.append(np.zeros(encoder.width, np.float32))
            failures.append(str(error))
    return vectors, failures


def _check(encoder: Embedder, model: str, modality: Modality) -> None:
    """Raise UserError for an encoder that gives no numbers for a black picture, silence or a word either."""
    if modality == VIDEO:
        side = max(8, encoder.frame_size)
        vector = encoder.embed_video(np.zeros((1, encoder.frames, side, side, 3), np.uint8))
    elif modality == SOUND:
        vector = encoder.embed_audio(np.zeros((1, encoder.rate_hz), np.float32))
    else:
        vector = encoder.embed_text(["a"])
    if not torch.isfinite(vector).all():
        raise UserError(
            f"encoder {model}: gives vectors of {modality} that are no numbers. Run 'flywheel index --retrain', or "
            "name another in index.folder."
        )


def _of_which(modality: Modality, wanted: Wanted) -> tuple[str, int]:
    """What of a clip a vector is of, and how many such the clip had before."""
    if modality == SOUND:
        return wanted.version, wanted.sounds
    return content_of(modality, wanted.text), wanted.number * (modality == TEXT)

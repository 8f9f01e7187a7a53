"""What is asked for as vectors: a text, a video, a sound."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flywheel.core.errors import MediaError, UserError
from flywheel.media.probe import probe
from flywheel.models.encoders import ALL, SOUND, TEXT, VIDEO, Embedder
from flywheel.search.files import file_frames, file_samples

#: A query's words beyond this are surely no description.
_MOST_CHARACTERS = 100_000
#: A vector that is asked for, by the modality of clips that it is compared with.
Asked = Mapping[str, NDArray[np.float32]]


class NoVectorOfText(UserError):
    """A text can't be asked for: the ``problem`` alone is for who has no command line before him."""

    def __init__(self, problem: str, instead: str) -> None:
        super().__init__(f"search: {problem}. {instead}")
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What is asked for: a text, a video (its picture and its sound), a sound, or several of them; and among what."""

    text: str = ""
    like: Path | None = None
    sound: Path | None = None
    split: str = ""
    source: str = ""
    round: int | None = None
    #: Only clips without sound, and those in which a recogniser heard nobody.
    without_speech: bool = False
    limit: int = 10


def asked_of(encoder: Embedder, query: SearchQuery) -> list[Asked]:
    """The vectors of what is asked for. Raises UserError where there is nothing, or it can't be read."""
    asked: list[Asked] = []
    if query.text.strip() or not (query.like or query.sound):
        asked.append(_text_vectors(encoder, query.text))
    if query.like is not None:
        try:
            vectors = _file_vectors(encoder, query.like)
        except MediaError as error:
            raise UserError(f"--like {query.like}: {error}. Name a video.") from error
        if not vectors:
            raise UserError(
                f"--like {query.like}: encoder '{encoder.built_from[0]}' knows no pictures, and the file has no sound. "
                "Name a video with sound, or search by words."
            )
        asked += [_same_for_all(vector) for vector in vectors]
    if query.sound is not None:
        if SOUND not in encoder.modalities:
            raise UserError(
                f"--sound {query.sound}: encoder '{encoder.built_from[0]}' knows no sounds. Search by words or --like "
                "FILE, or name an encoder in index.folder that does."
            )
        try:
            asked.append(_same_for_all(encoder.embed_audio(file_samples(encoder, query.sound)[None]).numpy()[0]))
        except MediaError as error:
            raise UserError(f"--sound {query.sound}: {error}. Name a sound, or a video that has one.") from error
    return asked


def _same_for_all(vector: NDArray[np.float32]) -> Asked:
    return dict.fromkeys(ALL, vector)


def _file_vectors(encoder: Embedder, file: Path) -> list[NDArray[np.float32]]:
    """The vectors of a video's picture and sound, of those that the encoder knows. Raises MediaError for no video."""
    vectors: list[NDArray[np.float32]] = []
    if VIDEO in encoder.modalities:
        frames, has_sound = file_frames(encoder, file)
        vectors.append(encoder.embed_video(frames[None]).numpy()[0])
    else:
        has_sound = probe(file).has_audio
    if has_sound and SOUND in encoder.modalities:
        vectors.append(encoder.embed_audio(file_samples(encoder, file)[None]).numpy()[0])
    return vectors


def _text_vectors(encoder: Embedder, text: str) -> Asked:
    if TEXT not in encoder.modalities:
        raise NoVectorOfText(
            f"encoder '{encoder.built_from[0]}' knows no texts",
            "Search with --like FILE or --sound FILE, or set index.encoder: trimodal and run "
            "'flywheel index --retrain'.",
        )
    if not re.search(r"\w", text):
        raise NoVectorOfText("says no word", "Say what is seen or heard, or name a file with --like or --sound.")
    asked = [text[:_MOST_CHARACTERS]]
    return {modality: encoder.embed_text(asked, modality).numpy()[0] for modality in encoder.modalities}

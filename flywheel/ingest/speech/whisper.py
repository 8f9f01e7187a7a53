"""faster-whisper: sound to segments with the times of their words. Nothing else imports it; its errors end here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
import numpy as np
from faster_whisper.transcribe import restore_speech_timestamps
from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps, get_vad_model
from numpy.typing import NDArray

from flywheel.core.config import Transcribe
from flywheel.core.errors import BorderError, UserError, first_line
from flywheel.core.foreign import without_hidden
from flywheel.ingest.speech.windows import Samples, windows
from flywheel.ingest.speech.words import Segment, Word

RATE_HZ = 16_000
_WINDOW_S = 300.0
#: Samples that the voice detector looks at together.
_FRAME = 512
#: A language that is at least so likely is that of the file's further windows too.
_SURE = 0.5


@dataclass(kw_only=True)
class Recognition:
    """What was recognised in a sound: times from its first sample, ``speech_s`` the seconds in which somebody speaks.

    ``language`` is Whisper's code, "" where nobody speaks, and ``probability`` the model's own.
    """

    segments: list[Segment] = field(default_factory=list)
    language: str = ""
    probability: float = 0.0
    speech_s: float = 0.0


class Whisper:
    """A loaded model. Raises UserError where the folder, the device or the language is not one that it can take."""

    def __init__(self, folder: Path, options: Transcribe, *, window_s: float = _WINDOW_S) -> None:
        self._options, self._window_s = options, window_s
        try:
            self._model = faster_whisper.WhisperModel(
                str(folder),
                device=options.device,
                compute_type=options.precision,
                cpu_threads=options.threads,
                local_files_only=True,
            )
        except Exception as error:
            raise UserError(
                f"{folder}: can't be loaded by faster-whisper ({first_line(error)}). Check transcribe.model, "
                "transcribe.device and transcribe.precision."
            ) from error
        heard, wanted = self._model.feature_extractor.mel_filters.shape[0], self._model.model.n_mels
        if heard != wanted:
            raise UserError(
                f"{folder}: wants {wanted} mel bands, and its preprocessor_config.json says {heard} or is missing. "
                "Copy it from the model that it was converted from."
            )
        languages = self._model.supported_languages
        if options.language and options.language not in languages:
            known = ", ".join(sorted(languages)[:8])
            raise UserError(f"transcribe.language: the model has no {options.language!r}. It has {known}, …")

    def recognise(self, blocks: Iterable[Samples]) -> Recognition:
        """What is said in a sound of 16 kHz, given in blocks (n,). Raises BorderError where the model itself fails."""
        found = Recognition()
        for begin_s, samples in windows(blocks, window_s=self._window_s, rate_hz=RATE_HZ, chances=_chances):
            spoken = get_speech_timestamps(samples, VadOptions())
            if spoken:
                self._add(found, begin_s, samples, spoken)
        return found

    def _add(self, found: Recognition, begin_s: float, samples: Samples, spoken: list[dict[str, int]]) -> None:
        """Add what is said in a window, of which the ``spoken`` parts are sample numbers."""
        speech = np.concatenate(collect_chunks(samples, spoken)[0])
        language = self._options.language or (found.language if found.probability >= _SURE else "")
        # What is tried again, after a doubtful text, is sampled.
        ctranslate2.set_random_seed(0)
        with _border():
            segments, info = self._model.transcribe(
                speech,
                language=language or None,
                beam_size=self._options.beam_size,
                condition_on_previous_text=False,
                word_timestamps=True,
            )
            restored = restore_speech_timestamps(segments, spoken, RATE_HZ)
            found.segments += filter(None, map(partial(_segment, begin_s=begin_s), restored))
        found.speech_s += float(info.duration)
        # Of a language that was given the library says that it is sure.
        if self._options.language or (not language and info.language_probability > found.probability):
            found.language, found.probability = str(info.language), float(info.language_probability)


def _chances(samples: Samples) -> tuple[NDArray[np.float32], int]:
    """The voice detector's chance of speech in each frame."""
    found = get_vad_model()(np.pad(samples, (0, -len(samples) % _FRAME)))
    return np.asarray(found, dtype=np.float32).reshape(-1), _FRAME


def _segment(segment: Any, *, begin_s: float) -> Segment | None:
    """A segment of the library's with plain numbers, in seconds of the sound; None where it holds no letter."""
    words = list(_words(segment, begin_s))
    if not "".join(word.text for word in words).strip():
        return None
    return Segment(
        words=words,
        mean_logprob=float(segment.avg_logprob),
        no_speech=float(segment.no_speech_prob),
        compression=float(segment.compression_ratio),
    )


def _words(segment: Any, begin_s: float) -> Iterator[Word]:
    # Where the alignment finds no words, the segment is as one.
    parts: Sequence[Any] = segment.words or ()
    if not parts:
        yield _word(begin_s + segment.start, begin_s + segment.end, segment.text, 0.0)
    for part in parts:
        yield _word(begin_s + part.start, begin_s + part.end, part.word, part.probability)


def _word(start_s: float, end_s: float, text: str, probability: float) -> Word:
    start = round(float(start_s), 3)
    end = max(start, round(float(end_s), 3))
    return Word(start_s=start, end_s=end, text=without_hidden(str(text)), probability=float(probability))


@contextlib.contextmanager
def _border() -> Iterator[None]:
    """Raises BorderError for what CTranslate2 raises: a library that is missing, no memory on the device."""
    try:
        yield
    except RuntimeError as error:
        raise BorderError(
            f"transcribe: the recogniser failed ({first_line(error)}). Nothing already written is lost; check "
            "transcribe.device and the device's memory, and run the same command."
        ) from error

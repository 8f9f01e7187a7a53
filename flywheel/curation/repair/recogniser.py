"""What a recogniser of speech makes of a sound before and after an edit: what it understood must not be lost."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flywheel.core.config import Transcribe
from flywheel.ingest.speech.folder import recogniser_folder, source_of

if TYPE_CHECKING:
    from flywheel.ingest.speech.whisper import Whisper

#: A sound whose words have a lower mean log-prob is hardly understood. Where it is understood, at most this share of
#: its words may be others after an edit: a recogniser grows surer of what it mishears, so that alone tells nothing.
#: Where it is not, this share of as many words must be made out, surer by so much. Measured on real speech
#: (experiments/repair).
_HARDLY, _MOST_OTHERS, _LEAST_WORDS, _SURER = -0.8, 0.03, 0.9, 0.1
#: Sounds whose figures are kept: a clip's original is asked about at each of its cycles.
_KEPT = 64


@dataclass(frozen=True, kw_only=True)
class Understood:
    """How many words a recogniser makes out, the mean log-prob that it gives them, 0 without any, and what they are."""

    words: int
    mean_logprob: float
    text: str = ""


class Recogniser:
    """A Whisper model that is asked about sounds, one at a time; ``source`` tells which one it is."""

    def __init__(self, folder: Path, options: Transcribe) -> None:
        self.source = source_of(folder)
        self.folder, self._options = folder, options
        self._model: Whisper | None = None
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Understood] = OrderedDict()

    def understood(self, samples: NDArray[np.float32], rate_hz: int) -> Understood:
        """What is understood of mono samples (n,) at 16 kHz. Raises BorderError where the model fails."""
        key = hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()
        with self._lock:
            if key not in self._known:
                self._known[key] = self._asked(samples, rate_hz)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]

    def veto(self, original: NDArray[np.float32], edited: NDArray[np.float32], rate_hz: int) -> str:
        """Refuses edits after which what was understood is other words, or what was hardly understood is no clearer."""
        before = self.understood(original, rate_hz)
        if not before.words:
            return ""
        after = self.understood(edited, rate_hz)
        if before.mean_logprob >= _HARDLY:
            others = _others(before.text, after.text)
            return f"speech: {others:.0%} of its words are others" if others > _MOST_OTHERS else ""
        if after.words < _LEAST_WORDS * before.words:
            return f"speech: {after.words} of {before.words} words are made out"
        if after.mean_logprob < before.mean_logprob + _SURER:
            return f"speech: log-prob {before.mean_logprob:.2f} to {after.mean_logprob:.2f}"
        return ""

    def verdict(self, original: NDArray[np.float32], edited: NDArray[np.float32], rate_hz: int) -> str:
        """``better`` where the edited sound is understood better, ``none`` where nobody speaks, else ``as good``."""
        before, after = (self.understood(samples, rate_hz) for samples in (original, edited))
        if not before.words and not after.words:
            return "none"
        hardly = bool(before.words) and before.mean_logprob < _HARDLY
        clearer = after.words >= _LEAST_WORDS * before.words and after.mean_logprob >= before.mean_logprob + _SURER
        return "better" if hardly and clearer else "as good"

    def _asked(self, samples: NDArray[np.float32], rate_hz: int) -> Understood:
        from flywheel.ingest.speech.whisper import RATE_HZ, Whisper

        if rate_hz != RATE_HZ:
            raise ValueError(f"recogniser: need samples at {RATE_HZ} Hz, got {rate_hz}")
        if self._model is None:
            self._model = Whisper(self.folder, self._options)
        found = self._model.recognise([samples])
        counts = np.array([len(segment.words) for segment in found.segments])
        if not counts.sum():
            return Understood(words=0, mean_logprob=0.0)
        logprobs = np.array([segment.mean_logprob for segment in found.segments])
        return Understood(
            words=int(counts.sum()),
            mean_logprob=float((counts * logprobs).sum() / counts.sum()),
            text="".join(word.text for segment in found.segments for word in segment.words),
        )


def _others(before: str, after: str) -> float:
    """How many words are wrong, missing or too many after an edit, as a share of those before."""
    said, found = (re.sub(r"[^\w\s]", "", text.lower()).split() for text in (before, after))
    return _distance(said, found) / max(1, len(said))


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The edit distance of two lists of words (Levenshtein's).

    A column of its table at a time, as the bits of whole numbers that say where it grows or falls by 1 (Myers 1999,
    Hyyrö 2003): a talk of an hour takes a tenth of a second.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for number, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << number
    all_rows, last_row = (1 << len(one)) - 1, 1 << (len(one) - 1)
    grows, falls, distance = all_rows, 0, len(one)
    for word in other:
        same = places.get(word, 0) | falls
        on_diagonal = (((same & grows) + grows) ^ grows) | same
        right = falls | ~(on_diagonal | grows) & all_rows
        left = grows & on_diagonal
        distance += bool(right & last_row) - bool(left & last_row)
        # The first row grows by 1 with each word.
        right, left = right << 1 | 1, left << 1
        grows = (left | ~(on_diagonal | right)) & all_rows
        falls = right & on_diagonal & all_rows
    return distance


def recogniser_of(name: str, root: Path, options: Transcribe) -> Recogniser | None:
    """The recogniser that ``repair.recogniser`` names, loaded when it is first asked; None without one.

    Raises UserError where the folder is none, or the extra that runs it is missing.
    """
    if not name:
        return None
    return Recogniser(recogniser_folder(name, root, key="repair.recogniser"), options)

"""What a recogniser writes: segments with the times of their words, which of them to doubt, and the parts of clips."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from flywheel.core.types import Cue

#: Above this chance of silence, below this mean log-prob, and above this ratio of compression a text is none: the
#: thresholds of Whisper (Radford et al. 2022, section 4.5), each by itself.
_NO_SPEECH, _LOGPROB, _COMPRESSION = 0.6, -1.0, 2.4
#: From this chance of silence on, a phrase that Whisper writes on silence is taken for one (ours).
_PERHAPS_SILENCE = 0.2
#: What the model learned to write where nobody speaks: short words, and goodbyes of videos.
_ON_SILENCE = frozenset(
    (
        "you", "thank you", "thanks", "thank you very much", "thank you so much", "thanks for watching",
        "thank you for watching", "thank you so much for watching", "please subscribe", "bye", "bye bye", "okay", "oh",
        "and", "so", "the", "i", "merci", "vielen dank", "gracias", "obrigado", "grazie", "спасибо", "谢谢", "谢谢大家",
        "ご視聴ありがとうございました", "시청해주셔서 감사합니다",
    )
)  # fmt: skip
#: Names of those who made the subtitles that it learned from; nobody speaks them.
_CREDIT = re.compile(
    r"amara\.org|subtitles by|subtitled by|untertitel (?:von|im auftrag|der)|sous-titr(?:es|age)|"
    r"sottotitoli (?:creati|a cura)|legendas pela|subtítulos (?:por|realizados)|субтитры (?:сделал|создавал|подогнал)|"
    r"редактор субтитров|字幕(?:由|志愿者|by)|transcription by castingwords|www\.zeoranger",
    re.IGNORECASE,
)
#: No cue is shorter: a word may have no length.
_LEAST_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word with its time in seconds; ``text`` has the blank before it, where its language has one."""

    start_s: float
    end_s: float
    text: str
    probability: float

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Words that a recogniser wrote as one, in seconds of the file. ``no_speech`` is its chance of silence.

    ``compression`` is how many times smaller the text is when it is compressed: a loop is many.
    """

    words: Sequence[Word]
    mean_logprob: float
    no_speech: float
    compression: float

    @property
    def start_s(self) -> float:
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        return max(word.end_s for word in self.words)

    @property
    def text(self) -> str:
        return "".join(word.text for word in self.words).strip()


def doubt(segment: Segment) -> str:
    """Why a segment is not what somebody said; empty where nothing speaks against it."""
    plain = re.sub(r"[^\w\s]+", "", segment.text.lower()).strip()
    if not plain:
        return "holds no word"
    if segment.no_speech > _NO_SPEECH:
        return f"the model's chance of silence is {segment.no_speech:.2f}"
    if segment.mean_logprob < _LOGPROB:
        return f"the model is too unsure of it (mean log-prob {segment.mean_logprob:.2f})"
    if segment.compression > _COMPRESSION:
        return f"repeats itself ({segment.compression:.1f} times smaller when compressed)"
    if _CREDIT.search(segment.text) or (plain in _ON_SILENCE and segment.no_speech > _PERHAPS_SILENCE):
        return "is what the model writes on silence"
    return ""


class SpokenWords:
    """The words of a file's segments, to take a clip's part from."""

    def __init__(self, segments: Sequence[Sequence[Word]]) -> None:
        """``segments`` are their words, in the order of time."""
        self._words = [(number, word) for number, words in enumerate(segments) for word in words]
        self._middles_s = np.array([word.middle_s for _, word in self._words])

    def within(self, start_s: float, end_s: float) -> Iterator[Cue]:
        """The cues of [start_s, end_s), in seconds of the file: of each segment the words whose middle lies there."""
        inside = np.flatnonzero((self._middles_s >= start_s) & (self._middles_s < end_s))
        for _, part in groupby((self._words[place] for place in inside), key=lambda found: found[0]):
            words = [word for _, word in part]
            first_s = max(start_s, words[0].start_s)
            last_s = min(end_s, max(word.end_s for word in words))
            text = "".join(word.text for word in words).strip()
            if text:
                yield Cue(start_s=first_s, end_s=max(last_s, first_s + _LEAST_S), text=text)

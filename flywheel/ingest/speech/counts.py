"""What a transcription did, or would do, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Rejected files that a run names.
_NAMED = 10


@dataclass
class TranscribeResult:
    """Counts of one run. ``files`` were listened to, in ``no_speech`` of them nobody speaks.

    ``clips`` got words, ``silent_clips`` are on record as having none; of both ``shared`` are of files that were
    recognised before. ``dropped`` counts segments that are no speech, each a rejected row with its reason.
    ``without_sound`` are files that have none. ``languages`` counts files; ``notes`` say which sound was taken.
    """

    source: str = ""
    files: int = 0
    no_speech: int = 0
    without_sound: int = 0
    clips: int = 0
    silent_clips: int = 0
    shared: int = 0
    words: int = 0
    dropped: int = 0
    rejected: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    first_rejected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def reject(self, uri: str, reason: str) -> None:
        """Count a rejected file."""
        self.rejected += 1
        if len(self.first_rejected) < _NAMED:
            self.first_rejected.append(f"{uri}: {reason}")

    def hear(self, language: str, *, is_speech: bool) -> None:
        """Count a file that was listened to, and its language where somebody speaks."""
        self.files += 1
        self.no_speech += not is_speech
        if is_speech:
            self.languages[language] = self.languages.get(language, 0) + 1

    def give(self, words: str, *, is_new: bool) -> None:
        """Count a clip that got its part, perhaps no words, of a file that was listened to now or before."""
        self.clips += bool(words)
        self.silent_clips += not words
        self.shared += not is_new
        self.words += len(words.split())


@dataclass
class Plan:
    """What a run would do: ``files`` to listen to, over ``hours`` of sound, and ``clips`` that would get their part."""

    source: str = ""
    files: int = 0
    clips: int = 0
    hours: float = 0.0
    without_sound: int = 0

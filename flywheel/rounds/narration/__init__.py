"""Long videos told in words: what is seen and heard shot by shot, in one text, checked, unrepeated, and as a whole."""

from __future__ import annotations

from flywheel.rounds.narration.passes import Narrated, narrate
from flywheel.rounds.narration.shots import Film, films_of
from flywheel.rounds.narration.telling import Telling

__all__ = ["Film", "Narrated", "Telling", "films_of", "narrate"]

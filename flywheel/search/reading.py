"""The text that a clip has now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.core.types import Clip
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace


class ClipTexts:
    """The texts of clips as they stand: people's words, else the newest round's caption, else what came along."""

    def __init__(self, workspace: Workspace) -> None:
        self._current = CurrentTexts(workspace)

    def of(self, clips: Sequence[Clip]) -> Mapping[str, str]:
        """Clip id -> its text, of those that have any; for some thousand clips at a time, or rounds are read often."""
        texts: dict[str, str] = {}
        for clip in clips:
            human = self._current.human.get(clip.id)
            if human is not None:
                # What people rejected is no text of the clip's, and what was written before is no better.
                texts[clip.id] = human.text or ""
        for round in sorted(self._current.rounds, reverse=True):
            missing = [clip.id for clip in clips if clip.id not in texts]
            texts |= {clip_id: caption.text for clip_id, caption in self._current.of(round, missing).items()}
        came = {clip.id: clip.transcript for clip in clips if clip.id not in texts}
        return {clip_id: text for clip_id, text in (texts | came).items() if text.strip()}

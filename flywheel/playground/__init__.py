"""The bundled corpus: renderer, words, noise and the tiny model.
Its faces: ``slots``, ``slot_f1``, ``write_playground``; ``facts_of`` and ``fact_scores`` for texts in any wording; and
the audio-visual world, :mod:`flywheel.playground.av`, with ``write_av_playground``, and its long videos with
``write_timelines``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.playground.grammar import slot_f1, slots
from flywheel.playground.reading import fact_scores, facts_of

if TYPE_CHECKING:
    from flywheel.playground.av.corpus import write_av_playground
    from flywheel.playground.corpus import write_playground
    from flywheel.playground.timeline import write_timelines

__all__ = ["fact_scores", "facts_of", "slot_f1", "slots", "write_av_playground", "write_playground", "write_timelines"]


def __getattr__(name: str) -> Any:
    # The parser is wanted by itself, without the encoder's libraries.
    if name == "write_playground":
        from flywheel.playground.corpus import write_playground

        return write_playground
    if name == "write_av_playground":
        from flywheel.playground.av.corpus import write_av_playground

        return write_av_playground
    if name == "write_timelines":
        from flywheel.playground.timeline import write_timelines

        return write_timelines
    raise AttributeError(name)

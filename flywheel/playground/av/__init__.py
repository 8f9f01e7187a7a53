"""The playground's audio-visual world: picture, sound and texts from one timeline, and planted faults.

``sample`` gives the timeline of a seed, ``plant`` puts a fault into it, ``frames`` and ``sound`` render it,
``seen_text``, ``heard_text`` and ``caption`` say what it holds. All are pure functions.
"""

from __future__ import annotations

from flywheel.playground.av.drawing import frames
from flywheel.playground.av.facts import facts, facts_f1, heard_facts, seen_facts, true_facts
from flywheel.playground.av.faults import plant
from flywheel.playground.av.grammar import caption, heard_text, seen_text
from flywheel.playground.av.sounds import SAMPLE_RATE, sound
from flywheel.playground.av.timeline import DURATION_S, FAULTS, Timeline
from flywheel.playground.av.worlds import BASE, CORPUS, World, sample

__all__ = [
    "BASE",
    "CORPUS",
    "DURATION_S",
    "FAULTS",
    "SAMPLE_RATE",
    "Timeline",
    "World",
    "caption",
    "facts",
    "facts_f1",
    "frames",
    "heard_facts",
    "heard_text",
    "plant",
    "sample",
    "seen_facts",
    "seen_text",
    "sound",
    "true_facts",
]

"""What is heard, from the sound alone: ``{"speech", "environment", "timbre", "mood", "events"}``."""

from __future__ import annotations

from flywheel.kinds._description import description

KIND = description(
    "heard", inputs=("sound",), texts=("speech", "environment", "timbre", "mood"), nothing="Nothing is heard."
)
"""``speech`` is what is said, in its words; ``events`` are sounds, seconds from the clip's start."""

"""What is seen, from the frames alone: ``{"scene", "objects", "layout", "writing", "mood", "events"}``."""

from __future__ import annotations

from flywheel.kinds._description import description

KIND = description(
    "seen", inputs=("frames",), texts=("scene", "objects", "layout", "writing", "mood"), nothing="Nothing is seen."
)
"""``writing`` is text that stands in the picture; ``events`` are actions, seconds from the clip's start."""

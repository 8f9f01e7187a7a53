"""How videos that the playground draws can be told from others, which the bundled model knows nothing of."""

from __future__ import annotations

from collections.abc import Iterable

#: Widths and heights of all that is drawn, pixels.
SIZES = ((192, 96), (224, 112), (256, 128))
#: Said wherever the bundled model writes about other videos.
TOY_NOTICE = (
    "THE DEMO MODEL IS IN USE (models.main.folder: bundled). It knows only the drawn shapes of 'flywheel playground': "
    "what it writes about your videos means nothing. Set models.main.folder to a real model: a folder, or a hub id "
    "such as Qwen/Qwen3-VL-2B-Instruct."
)


def all_drawn(sizes: Iterable[tuple[int, int]]) -> bool:
    """Whether videos of these widths and heights can all be the playground's."""
    return set(sizes) <= set(SIZES)

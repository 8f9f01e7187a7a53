"""What a source of columns is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from flywheel.store.view import View


def of_standing(view: View, rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each clip: the last that is of the sound that stands, else the last; without ``version``."""
    if view.count("sound_versions"):
        standing = view.standing_sounds().select("clip_id", standing="version")
        rows = rows.join(standing, on="clip_id", how="left", maintain_order="left")
        is_of_it = pl.col("version") == pl.col("standing").fill_null("")
        rows = rows.sort(is_of_it, maintain_order=True).drop("standing")
    return rows.unique("clip_id", keep="last", maintain_order=True).drop("version")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Columns of evidence, as a file of this package registers them under the name ``SOURCE``.

    ``read`` gives a frame with ``clip_id`` and columns of 32 bits, a row for each clip that was measured, nan or null
    where something can't be told. ``features`` are those that tell whether sound and picture belong together; of each
    the frame has ``shuffled_NAME`` and ``shifted_NAME`` too, the same of pairs that were made wrong: another video's
    sound, and its own at a wrong time. ``asked``: a model is asked for them, so that many clips have none; then the
    pairs that were made wrong are known of a random choice of clips alone.
    """

    read: Callable[[View], pl.DataFrame]
    features: tuple[str, ...] = ()
    asked: bool = False

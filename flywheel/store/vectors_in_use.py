"""The vectors that a workspace is searched by, for who knows no encoder."""

from __future__ import annotations

import polars as pl

from flywheel.core.encoder_folder import encoder_id
from flywheel.core.errors import UserError
from flywheel.store.ledger import Ledger
from flywheel.store.vectors import VectorIndex
from flywheel.store.view import View

#: Where the database keeps the id of the encoder that was trained here and is searched by, and of the one that the
#: configuration names, once all clips have its vectors.
ENCODER, GIVEN_ENCODER = "encoder", "encoder_given"


def vectors_in_use(view: View) -> VectorIndex | None:
    """The vectors of the encoder in use; None where there is no index by it, or its folder is gone.

    Raises BorderError as :meth:`VectorIndex.open` does.
    """
    model = _given(view) if view.config.index.folder else Ledger(view.database).meta(ENCODER)
    if not model:
        return None
    for frame in view.records.batches("vectors", columns=["vector"], where=pl.col("model") == model):
        # One says that a text is gone.
        if widths := {len(vector) // 2 for vector in frame["vector"].head(64)} - {0}:
            return VectorIndex.open(view, model, widths.pop())
    return None


def _given(view: View) -> str | None:
    """The encoder that the configuration names, where all clips had its vectors."""
    try:
        # Another folder may be named since, or other weights lie in it.
        named = encoder_id(view.root / view.config.index.folder)
    except UserError:
        return None
    return named if Ledger(view.database).meta(GIVEN_ENCODER) == named else None

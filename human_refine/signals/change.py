"""Change: the texts that differ most from the round before."""

from __future__ import annotations

import numpy as np

from flywheel.metrics import token_f1
from human_refine.signals import TextBatch, Values, lasting


@lasting
def change(batch: TextBatch) -> Values:
    """One minus the word F1 with the same clip's text of the round before; NaN where there is none or none changed."""
    values = np.full(batch.rows.height, np.nan)
    earlier = batch.read_earlier()
    if earlier.null_count() == len(earlier):
        return values
    texts = batch.read_texts()
    # Equal texts are most of a late round's, and need no counting of words.
    for index in ((texts != earlier) & earlier.is_not_null()).arg_true().to_list():
        value = 1 - token_f1(texts[index], earlier[index])
        if value > 0:
            values[index] = value
    return values

"""Texts that stand too often: those that a source repeats and people do not. Shape suffix: K kinds of text."""

from __future__ import annotations

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

#: The level of each of the two bounds that must part before a text is held to stand too often.
_LEVEL = 1e-3


def too_often(source_K: Float[Tensor, " K"], num_rows: float, people_K: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
    r"""The share of each text's occurrences that is too much, (K,) in [0, 1]; ours, ``docs/theory.md`` 4.6.

    ``source_K`` are counts of a source's texts (any scale), made of ``num_rows`` rows. ``people_K`` are people's, of as
    many texts as they add up to.

    0 unless the lower Clopper-Pearson bound of the source's share is above the upper one of people's. Then
    $1 - \hat h/\hat s$ with $\hat h = (k + 1/2)/(H + 1)$, H the number of people's texts.
    """
    out, num_people = torch.zeros_like(source_K), float(people_K.sum())
    share = source_K / source_K.sum().clamp(min=1e-300)
    # With no occurrence among people's texts a smaller share can't be told from theirs.
    can = (share > 1 - _LEVEL ** (1 / max(num_people, 1.0))).nonzero()[:, 0]
    if not num_people or not len(can):
        return out
    s, k = (table[can].cpu().numpy() for table in (share, people_K))
    low = scipy.stats.beta.ppf(_LEVEL, s * num_rows, num_rows - s * num_rows + 1)
    high = np.where(k < num_people, scipy.stats.beta.ppf(1 - _LEVEL, k + 1, np.maximum(num_people - k, 1e-9)), 1.0)
    excess = np.clip(1 - (k + 0.5) / (num_people + 1) / s, 0, 1)
    out[can] = torch.from_numpy(np.where(low > high, excess, 0.0)).to(out)
    return out

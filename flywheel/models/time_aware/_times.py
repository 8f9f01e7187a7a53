"""Times as a query names them, and as numbers that are alike where times are near."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

#: ``00:01:05.500``, ``1:05``; hours may be missing, a part of a second too.
_CLOCK = re.compile(r"(?<![\d:.])(?:(\d{1,3}):)?(\d{1,2}):(\d{2}(?:\.\d{1,3})?)(?![\d:])")
#: What stands between the two times of a span.
_BETWEEN = re.compile(r"\s*(?:to|until|till|and|,|-|\u2013)\s*")
#: Shortest and longest period of the waves, in seconds, and how many there are.
_SHORTEST_S, _LONGEST_S, _WAVES = 2.0, 3600.0, 16
#: Numbers of a span.
TIME_FEATURES = 2 * _WAVES


def spans_of(text: str) -> list[tuple[float, float]]:
    """The spans of time that a text names, in seconds and in order; a time alone is a span without length.

    Two times with "to", "until", "and", a comma or a dash between them are a span, where the second is not the earlier.
    """
    spans: list[tuple[float, float]] = []
    end_of_last: int | None = None
    for match in _CLOCK.finditer(text):
        hours, minutes, seconds = match.groups()
        time_s = 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)
        begins = spans[-1][0] if spans and end_of_last is not None else math.inf
        if begins <= time_s and _BETWEEN.fullmatch(text[end_of_last : match.start()]):
            spans[-1] = (begins, time_s)
            end_of_last = None
        else:
            spans.append((time_s, time_s))
            end_of_last = match.end()
    return spans


def time_features(span_N2: Tensor) -> Tensor:
    """Waves over time, each as its mean over the span: ``(..., 2)`` in seconds to ``(..., 32)``.

    The product of two spans' features is large where they overlap. The paper projects times linearly and does not say
    in which form; a plain number of seconds can't be compared by a product (ours).
    """
    waves = torch.arange(_WAVES, dtype=torch.float32, device=span_N2.device)
    period_K = _SHORTEST_S * (_LONGEST_S / _SHORTEST_S) ** (waves / (_WAVES - 1))
    omega_K = 2 * math.pi / period_K
    middle, half = span_N2.mean(-1, keepdim=True), (span_N2[..., 1:] - span_N2[..., :1]) / 2
    # The mean of a wave over a span is the wave at its middle, the weaker the longer the span.
    share = torch.sinc(omega_K * half / math.pi)
    return torch.cat([share * torch.cos(omega_K * middle), share * torch.sin(omega_K * middle)], dim=-1)

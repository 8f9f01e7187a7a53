"""Pictures, sounds and times to a fixed number of states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flywheel.models.time_aware._times import TIME_FEATURES, time_features

#: How sharply times that are near find each other before anything is learned.
_SHARPNESS = 20.0


class Resampler(nn.Module):
    """One attention in which learned queries and the query's times look at all pictures and sounds (AVTS resampler).

    Shapes: B queries, V and A tokens of pictures and sounds, M spans of time, N learned queries, D width. Pictures and
    sounds carry the time they are of, by the same projection as the query's times: without it no time could find them.
    That times are queries of the attention, beside being seen in it, is ours: the figure shows one attention and a
    mixed sequence, and no way from a time to what happens then.
    """

    def __init__(self, *, seen_width: int, heard_width: int, width: int, states: int, spans: int, heads: int) -> None:
        super().__init__()
        if width % heads or width < TIME_FEATURES:
            raise ValueError(f"time-aware: need a width of {TIME_FEATURES} or more that heads divide, got {width}")
        self.width, self.heads, self.states, self.spans = width, heads, states, spans
        #: Temporal linear projection.
        self.time = nn.Linear(TIME_FEATURES, width, bias=False)
        self.seen, self.heard = _mlp(seen_width, width), _mlp(heard_width, width)
        self.queries = nn.Parameter(0.02 * torch.randn(states, width))
        self.no_time = nn.Parameter(0.02 * torch.randn(width))
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.orthogonal_(self.time.weight)
        for layer in (self.key, self.value, self.out):
            nn.init.eye_(layer.weight)
        with torch.no_grad():
            self.query.weight.copy_(_SHARPNESS * torch.eye(width))

    def forward(
        self,
        seen_BVD: Tensor,
        seen_span_BV2: Tensor,
        heard_BAD: Tensor,
        heard_span_BA2: Tensor,
        present_BX: Tensor,
        span_BM2: Tensor,
        named_BM: Tensor,
    ) -> Tensor:
        """States ``(B, N + M, D)``: of the learned queries, then of each span of time in its order.

        ``present_BX`` says which of the V + A tokens there are, ``named_BM`` which of the M spans the query names.
        """
        time_BMD = torch.where(named_BM[..., None], self.time(time_features(span_BM2)), self.no_time)
        seen = self.seen(seen_BVD) + self.time(time_features(seen_span_BV2))
        heard = self.heard(heard_BAD) + self.time(time_features(heard_span_BA2))
        tokens_BXD = torch.cat([seen, heard, time_BMD], dim=1)
        queries_BQD = torch.cat([self.queries.expand(len(time_BMD), -1, -1), time_BMD], dim=1)
        mask_BX = torch.cat([present_BX, torch.ones_like(named_BM)], dim=1)
        mixed = nn.functional.scaled_dot_product_attention(
            self._split(self.query(queries_BQD)),
            self._split(self.key(tokens_BXD)),
            self._split(self.value(tokens_BXD)),
            attn_mask=mask_BX[:, None, None],
        )
        states: Tensor = self.norm(queries_BQD + self.out(mixed.transpose(1, 2).flatten(2)))
        return states

    def _split(self, x_BND: Tensor) -> Tensor:
        return x_BND.reshape(*x_BND.shape[:2], self.heads, -1).transpose(1, 2)


def _mlp(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width_in), nn.Linear(width_in, width), nn.GELU(), nn.Linear(width, width))

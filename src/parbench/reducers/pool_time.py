"""Average pooling over time: a baseline for methods that compare frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.ops.grid import area_weights, banded_weights, spaced
from parbench.ops.selection import to_mask
from parbench.reducers import ClipReducer
from parbench.reducers.frames import Frames, Sent, together


@dataclass
class PoolTime(ClipReducer):
    """Averages each place of a video over equal spans of time.

    All places have the same number of spans, or one more if the budget is no multiple of the tokens of a frame; those with one more
    are evenly spaced. Spans that cut frames weight them by time. A budget of fewer tokens than a frame has gives averages over all
    frames, pooled in space too, by cells of a coarse grid.
    """

    title = "pool over time"
    control = True

    def reduce_clip(self, frames: Frames) -> Sent:
        """Average the tokens."""
        budget, size = self.tokens_of(frames), frames.size
        if budget < size:
            still = banded_weights(budget, *frames.grid) / frames.count
            return _sent(still.repeat(1, frames.count), frames)
        spans, more = divmod(budget, size)
        longer = to_mask(spaced(more, size)[None], size)[0] if more else torch.zeros(size, dtype=torch.bool)
        parts = []
        for places, count in ((~longer, spans), (longer, spans + 1)):
            for place in places.nonzero().flatten().tolist():
                weights = torch.zeros(count, frames.count, size, dtype=torch.float64)
                weights[:, :, place] = area_weights(count, frames.count)
                parts.append(_sent(weights.flatten(1), frames))
        return together(parts)


def _sent(weights: Tensor, frames: Frames) -> Sent:
    """Tokens with weights [K, F x N], each at the place of the first of its greatest."""
    weights = weights.to(frames.tokens.device)
    token, patch = weights.nonzero(as_tuple=True)
    return Sent.mixed(weights.argmax(1), token, patch, weights[token, patch])

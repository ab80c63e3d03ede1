"""The text tokens that rate the visual tokens inside the LLM, chosen by the kind of their words."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from parbench.reducers.layer_probes import View
from parbench.reducers.word_kinds import CONTENT, STOP, TEMPLATE

_KINDS = {"content": CONTENT, "stop": STOP, "template": TEMPLATE}


def raters_of(view: View, raters: str) -> Tensor:
    """The text tokens after each image that rate it, [E, T] bool.

    Args:
        view: The batch.
        raters: A value of :data:`parbench.reducers.word_kinds.RATERS`. Where an image has no token of the kind, or where kinds are
            not known (as in predictions of FLOPs, which have no text), all tokens rate.
    """
    read = view.layout.text[1]
    if raters == "all":
        return read
    if raters == "last":
        return read & (read.cumsum(1) == read.sum(1, keepdim=True))
    if view.words is None:
        return read
    columns = view.begin.text[0]
    kinds = view.words[view.begin.row[:, None], columns]
    # Text is never dropped, so it stays in its order; generated tokens follow, and are none of the question.
    kinds = F.pad(kinds, (0, read.shape[1] - kinds.shape[1]), value=TEMPLATE)
    found = read & (kinds == _KINDS[raters])
    return found.where(found.any(1, keepdim=True), read)


def rating(view: View, raters: str, *, own: bool = False) -> Tensor:
    """Attention to each visual token, [E, N] in float64: mean over heads and raters; see :meth:`View.text_attention`."""
    attention, real = view.text_attention(raters_of(view, raters), own=own)
    summed = (attention.mean(1) * real[..., None]).sum(1)
    return summed / real.sum(1, keepdim=True).clamp(min=1)

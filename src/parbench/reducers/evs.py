"""EVS (arXiv 2510.14624; vLLM's ``vllm/multimodal/video_prune/evs.py``, wheel 0.33.0, commit 4ba787e)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parbench.ops.selection import top_k
from parbench.reducers import ClipReducer
from parbench.reducers.frames import Frames, Sent


@dataclass
class Evs(ClipReducer):
    """Keeps the first frame of a video, and of the others the tokens that differ most from the one before at their place.

    The difference is one minus the cosine with the token at the same place of the frame before, whether that is kept or not. So
    what drifts slowly is dropped. Tokens of all frames compete for the budget; of equal ones the earlier is kept.

    This is what vLLM does. The paper compares the pixels of patches.

    vLLM keeps as many as (1 - q) of the tokens, rounded down, and at least the first frame. Here the budget is met exactly, and one
    below the tokens of a frame is refused. Differences are computed in float64; vLLM computes them in the model's precision, in
    bfloat16 of which many are equal. vLLM keeps the position ids of tokens (``positions=keep``), as here models with three axes do.
    """

    title = "EVS"
    paper = "arXiv 2510.14624"

    def least(self, frames: int, size: int) -> int:
        """The tokens of the first frame."""
        return size

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select the tokens."""
        first = torch.full((frames.size,), float("inf"), dtype=torch.float64, device=frames.tokens.device)
        return Sent.unchanged(top_k(torch.cat([first, self.change(frames).flatten()]), self.tokens_of(frames)))

    @staticmethod
    def change(frames: Frames) -> torch.Tensor:
        """[F-1, N] in float64, how much each token differs from the one before, from the second frame on."""
        return 1 - frames.same_place

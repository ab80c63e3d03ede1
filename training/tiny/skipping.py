"""Visual tokens that skip the feed-forward part of the LLM in training, as they do in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tiny.sequences import Turn


@contextmanager
def without_mlp(layers: Any, columns: torch.Tensor | None) -> Iterator[None]:
    """Within it, the MLP of each layer adds nothing to the tokens of some columns.

    Args:
        layers: The layers of the LLM.
        columns: [N] bool; None for no columns.
    """
    handles = []
    if columns is not None:

        def clear(_mlp: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
            return output.masked_fill(columns[:, None].to(output.device), 0.0)

        handles = [layer.mlp.register_forward_hook(clear) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def unseen_by_answers(allowed: torch.Tensor, turns: Sequence[Turn], start: int, columns: torch.Tensor) -> torch.Tensor:
    """Which tokens attend to which if generated tokens do not see some columns, as these have left the KV cache by then.

    The first token of an answer is predicted at the end of the prompt, which sees them.

    Args:
        allowed: [B, N, N] without that.
        turns: The questions.
        start: Index of the first token after the visual ones.
        columns: [N] bool.
    """
    found = allowed.clone()
    for turn in turns:
        found[turn.row, start + turn.at + turn.prompt : start + turn.end, columns] = False
    return found

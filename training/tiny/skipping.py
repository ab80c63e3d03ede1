"""Visual tokens that skip the feed-forward part of the LLM, or are seen in part, in training as in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from parbench.engine.hooks.keys import without_keys
from parbench.reducers.learned_part import Shares
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


@contextmanager
def partly_seen(layers: Any, shares: Shares | None, columns: slice) -> Iterator[None]:
    """Within it, each layer sees visual tokens in part: values are multiplied by shares, and a key with a share of 0 is hidden.

    Args:
        layers: The layers of the LLM.
        shares: Gives the shares in a layer; None if all is seen.
        columns: The visual tokens.
    """
    handles = []
    for index, layer in enumerate(layers if shares is not None else ()):
        seen = _Seen(index, shares, columns)
        handles.append(layer.self_attn.register_forward_pre_hook(seen.hide, with_kwargs=True))
        handles.append(layer.self_attn.v_proj.register_forward_hook(seen.weigh))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Seen:
    """What a layer sees of the visual tokens. Values are projected after the shares are known."""

    def __init__(self, layer: int, shares: Any, columns: slice) -> None:
        self.layer, self.shares, self.columns = layer, shares, columns
        self.weights = torch.empty(0)

    def hide(self, _attention: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        hidden = kwargs["hidden_states"]
        found = self.shares(self.layer, hidden[:, self.columns])
        self.weights = torch.ones(hidden.shape[:2], dtype=found.dtype, device=hidden.device)
        self.weights[:, self.columns] = found
        return args, {**kwargs, "attention_mask": without_keys(kwargs["attention_mask"], self.weights > 0, hidden)}

    def weigh(self, _linear: Any, _args: Any, values: torch.Tensor) -> torch.Tensor:
        return values * self.weights[..., None].to(values.dtype)


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

"""The layers of the LLM between two stages, which share tokens, keys, positions and masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from parbench.engine.hooks.weighing import weighted_mask
from parbench.models.adapter import LanguageAdapter
from parbench.reducers.layer_probes import Layout


@dataclass
class Segment:
    """The layers between two stages: they have the same tokens and the same number of keys.

    Attributes:
        layout: Layout of the tokens at prefill.
        mask: [B, keys], 1 for tokens; generated ones follow those of the prompt.
        dropped: [B] tokens dropped so far.
        position_ids: [B, S', P] position ids in the current forward pass.
        added: [B, keys] what sizes of merged tokens add to attention logits; None for nothing.
        by_kind: Further inputs of the layers in the current forward pass, by kind of layer.
    """

    layout: Layout
    mask: Tensor
    dropped: Tensor
    position_ids: Tensor
    added: Tensor | None = None
    by_kind: dict[str, dict[str, Any]] = field(default_factory=dict)

    def extend(self, more: int, positions: Tensor, compacts: bool) -> None:
        """Add the keys of ``more`` generated tokens, at the positions that they would have without reduction, [1 or B, more, P].

        Args:
            more: Their number.
            positions: Their position ids if nothing had been dropped.
            compacts: Whether position ids are renumbered.
        """
        self.mask = F.pad(self.mask, (0, more), value=1)
        self.added = None if self.added is None else F.pad(self.added, (0, more))
        positions = positions.to(self.mask.device).expand(len(self.mask), -1, -1)
        self.position_ids = positions - self.dropped[:, None, None] if compacts else positions

    def inputs(self, adapter: LanguageAdapter, index: int, hidden: Tensor, cache: Any, image: Tensor | None) -> dict[str, Any]:
        """Positions and attention mask of a layer in the current forward pass, as its arguments.

        Args:
            adapter: The model.
            index: The layer.
            hidden: [B, S', d] its input.
            cache: The KV cache.
            image: [B, S'] the image of each token at prefill; None while decoding.
        """
        # Layers of one kind get the same; in most models all are of one.
        kind = adapter.layer_kind(index)
        if kind not in self.by_kind:
            there = hidden.to(self.mask.device)
            position_embeddings = adapter.rotary(there, self.position_ids, index)
            mask = adapter.causal_mask(index, there, self.mask, cache, image)
            mask = mask if self.added is None else weighted_mask(mask, self.added, there)
            self.by_kind[kind] = {"position_embeddings": position_embeddings, "attention_mask": mask}
        single = self.position_ids.shape[-1] == 1
        return {**self.by_kind[kind], "position_ids": self.position_ids[..., 0] if single else None}

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""
        self.mask, self.dropped = self.mask[stay], self.dropped[stay]
        self.added = None if self.added is None else self.added[stay]

"""The oracle: a selection that knows where the answer can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes, Shown


@dataclass
class Oracle(TokenReducer):
    """Keeps the patches that the evidence boxes of the question cover, then random ones: how much a better selection could gain.

    A patch counts as covered as in evidence recall: a quarter of it lies in a box. Where the boxes cover more patches than the
    budget, each thing in turn gives a random patch. A question that needs nothing in the image, such as one about an absent
    object, keeps random patches. Of an image with crops or tiles, patches of these are evidence, those of the thumbnail are not.

    This is a ceiling for selection, not a method: the boxes come from the data set. It is no strict bound, since a method that
    merges tokens sends something of all patches, and patches around an object may help too.

    Attributes:
        seed: Seeds the random patches, together with the image's content.
    """

    title = "oracle"
    control = True
    prompt_aware = True
    free = True
    told_evidence = True
    seed: int = 0

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` patches per image.

        Raises:
            ParbenchError: It is not known where the evidence is.
        """
        noise = probes.noise(self.seed)
        scores = torch.stack([noise[row] + self._turns(shown, noise[row]) for row, shown in enumerate(probes.evidence)])
        kept = top_k(scores, self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))

    def _turns(self, shown: Shown | None, noise: Tensor) -> Tensor:
        """What lifts evidence above other patches [N]: the more, the earlier its thing's turn comes to give this patch."""
        if shown is None:
            raise ParbenchError(
                f"method {self.name} has to be told where the evidence is: use data with boxes, such as dataset=scenes, in an "
                "evaluation"
            )
        lift = torch.zeros_like(noise)
        for thing in shown:
            patches = torch.tensor(sorted(thing), dtype=torch.long, device=noise.device)
            order = patches[noise[patches].argsort(descending=True)]
            turns = len(noise) - torch.arange(len(order), dtype=lift.dtype, device=noise.device)
            lift[order] = torch.maximum(lift[order], turns)
        return lift

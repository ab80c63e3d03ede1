"""TOFC with its codec (arXiv 2503.12926), from descriptions; its code was not available."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Reduction, one_of
from parbench.reducers.learned import Learned
from parbench.reducers.modules.codec import Codec
from parbench.reducers.tofc import Tofc
from parbench.reducers.token_probes import Probes

_EXPERTS = 4


@dataclass
class TofcCodec(Learned, Tofc):
    """Merges patches as `tofc` does, and sends each token through a trained codec, as from a device to a server.

    A hyperprior sums a token up in a few integers (a sixteenth of its width), which give a mean and a scale for each dimension. The
    token minus the mean is rounded to integers, whose bits are those of a Laplace distribution. There are four such entropy models,
    and a router chooses one for each token. The server gets the rounded token. Tables show the bits of an image: of residuals,
    hyperpriors and the numbers of the models. They are estimated by entropy, without an arithmetic coder, which would need hardly
    more. The 576 patches of llava-tiny in float16 are 1,769,472 bits.

    The codec is meant to cost no accuracy, so this row is a check of that, beside `tofc` at the same budget. Training is the
    paper's setting: tower, projector and LLM are frozen. The loss is that of the answers plus ``trade`` times the bits of a
    dimension.

    Deviations: four entropy models instead of 16; layers of width d, d/2 and d/16 with GELU (the paper's are not in the
    descriptions), a logistic prior for the hyperprior, the temperature 1 and a balance loss of 0.01 are choices. In training the
    models are mixed by the softmax of the router's scores. The descriptions do not say whether the number of the model is counted;
    here it is. Budgets outside 8 to 64, those of training, are refused. At the full budget patches are sent unchanged and uncoded.

    Attributes:
        trade: Weight of the bits in training. Weights trained with one value are refused with another.
    """

    title = "TOFC (trained here)"
    needs = frozenset({"projector"})
    module_kind: ClassVar = Codec
    depends_on: ClassVar = ("place", "neighbours", "trade")
    training_budgets: ClassVar = (8, 64)
    trade: float = 0.01

    def __post_init__(self) -> None:
        """Check the fields."""
        # The codec is for the tower's features.
        one_of(self, place=("before_projector",))
        super().__post_init__()
        if self.trade < 0:
            raise ParbenchError(f"method.trade={self.trade} of {self.name} is impossible: use 0 or more")

    @property
    def note(self) -> str:
        """What bits are."""
        return "bits: estimated by entropy, with the numbers of the entropy models"

    def new_module(self, width: int) -> Codec:
        """See :meth:`Learned.new_module`."""
        return Codec(width, _EXPERTS)

    def fits(self, about: Mapping[str, Any], geometry: Geometry) -> None:
        """Refuse a budget outside the range of those that the weights were trained at."""
        budgets = about["budgets"]
        if not min(budgets) <= self.count(geometry) <= max(budgets) and self.count(geometry) < geometry.patches:
            raise ParbenchError(
                f"budget={self.budget} of method {self.name} is out of reach: its weights were trained at {min(budgets)} to "
                f"{max(budgets)} tokens, so use one of those"
            )

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Merge, and code the tokens."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        return self.evaluate(self.module(features, probes), features, probes)

    def evaluate(self, module: Codec, features: Tensor, probes: Probes) -> Reduction:
        """See :meth:`Learned.evaluate`."""
        merged = super().reduce(features, probes)
        coded = module.encode(merged.tokens.double().flatten(0, 1))
        shape = merged.tokens.shape
        return replace(
            merged, tokens=coded.tokens.view(shape).to(features.dtype), measures={"bits": coded.bits.view(shape[:2]).sum(1)}
        )

    def learn(
        self, module: Codec, features: Tensor, probes: Probes, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Learned.learn`."""
        merged = super().reduce(features, probes).tokens
        # Differences of sigmoids need more digits than bfloat16 has.
        with torch.autocast(features.device.type, enabled=False):
            coded = module.mix(merged.float().flatten(0, 1))
            rate = coded.bits.mean() / features.shape[-1]
            uneven = (coded.share - 1 / len(module.experts)).square().sum()
        more = {"bits": self.trade * rate, "balance": uneven, "_bits": rate.detach()}
        return coded.tokens.view(merged.shape), more

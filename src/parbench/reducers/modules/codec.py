"""TOFC's codec: entropy models of which a router chooses one for each token."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parbench.reducers.modules.base import LearnedModule, be_zero

# Scale of the Laplace distributions before training: features have a standard deviation of about 2.9 a dimension.
_FIRST_SCALE = 2.0
# Smallest scale, and smallest probability of a symbol, so that its bits are finite.
_LEAST_SCALE = 0.05
_LEAST = 1e-9


class Coded(NamedTuple):
    """Tokens after the codec.

    Attributes:
        tokens: [..., d] as the decoder gives them.
        bits: [...] bits of each token, by the entropy models: of its residual, its hyperprior and, in evaluation, the number of its
            model.
        share: [E] mean share of each entropy model.
    """

    tokens: Tensor
    bits: Tensor
    share: Tensor


class EntropyModel(nn.Module):
    """A hyperprior: a token is summed up in a few integers, which give mean and scale of a Laplace distribution for each dimension.

    Args:
        width: Width of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        small = max(1, width // 16)
        self.analysis = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, small))
        self.synthesis = nn.Sequential(nn.Linear(small, width // 2), nn.GELU(), nn.Linear(width // 2, 2 * width))
        self.median = nn.Parameter(torch.zeros(small))
        self.log_scale = nn.Parameter(torch.zeros(small))
        self.reset()

    def reset(self) -> None:
        """Go back to one distribution for all tokens and dimensions."""
        last = self.synthesis[2]
        assert isinstance(last, nn.Linear)
        be_zero(last)
        with torch.no_grad():
            last.bias[last.out_features // 2 :] = math.log(math.expm1(_FIRST_SCALE))
            self.median.zero_()
            self.log_scale.zero_()

    def forward(self, tokens: Tensor, *, soft: bool = False) -> tuple[Tensor, Tensor]:
        """Tokens [..., d] as the decoder gives them, and their bits [...]. ``soft``: rounding has the gradient of the identity."""
        hyper = _rounded(self.analysis(tokens) - self.median, soft)
        scale = self.log_scale.exp()
        likely = torch.sigmoid((0.5 - hyper.abs()) / scale) - torch.sigmoid((-0.5 - hyper.abs()) / scale)
        mean, raw = self.synthesis(hyper + self.median).chunk(2, dim=-1)
        residual = _rounded(tokens - mean, soft)
        spread = F.softplus(raw) + _LEAST_SCALE
        bits = _bits(likely).sum(-1) + _bits(_laplace(residual, spread)).sum(-1)
        return residual + mean, bits


class Codec(LearnedModule):
    """Entropy models and their router.

    Args:
        width: Width of the tokens.
        experts: Number of entropy models.
    """

    kind = "tofc-codec"

    def __init__(self, width: int, experts: int) -> None:
        super().__init__(width=width, experts=experts)
        self.experts = nn.ModuleList(EntropyModel(width) for _ in range(experts))
        self.router = nn.Linear(width, experts)

    def reset(self) -> Self:
        """Go back to the state before training, in place: what is random is drawn from a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.load_state_dict(type(self)(**self.sizes).state_dict())
        return self

    def encode(self, tokens: Tensor) -> Coded:
        """Evaluation: each token [n, d] by the entropy model with the highest score."""
        chosen = self.router(tokens).argmax(-1)
        found, bits = torch.empty_like(tokens), torch.empty_like(tokens[:, 0])
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            found[mine], bits[mine] = expert(tokens[mine])
        share = torch.bincount(chosen, minlength=len(self.experts)) / max(1, len(chosen))
        return Coded(found, bits + math.log2(len(self.experts)), share)

    def mix(self, tokens: Tensor) -> Coded:
        """Training: tokens [n, d] and bits of all entropy models, weighted by the softmax of their scores."""
        weights = self.router(tokens).softmax(-1)
        every = [expert(tokens, soft=True) for expert in self.experts]
        found = torch.stack([one for one, _ in every], dim=-1) @ weights[..., None].to(tokens.dtype)
        bits = (torch.stack([one for _, one in every], dim=-1) * weights).sum(-1)
        return Coded(found[..., 0], bits, weights.mean(0))


def _rounded(values: Tensor, soft: bool) -> Tensor:
    return values + (values.round() - values).detach() if soft else values.round()


def _laplace(whole: Tensor, scale: Tensor) -> Tensor:
    """Probability of an integer under a Laplace distribution around 0."""
    far = whole.abs()
    outside = 0.5 * torch.exp(-(far - 0.5).clamp(min=0) / scale) * (1 - torch.exp(-1 / scale))
    return torch.where(far < 0.5, 1 - torch.exp(-0.5 / scale), outside)


def _bits(probability: Tensor) -> Tensor:
    return -probability.clamp(min=_LEAST).log2()

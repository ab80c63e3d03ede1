"""The contract of a reducer: what it is given, what it gives back, and one small base class a site."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.matching import Merge, even_merges, most_merges
from parbench.ops.selection import compact, gather
from parbench.reducers import budget as budgets

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.models.vision import Encoded
    from parbench.reducers.layer_probes import View
    from parbench.reducers.token_probes import Probes


@dataclass(frozen=True)
class Provenance:
    """Which patches each output token of each image comes from, with which weights.

    Attributes:
        token: [E] number of the output token within its image.
        patch: [E] raster index of the patch.
        weight: [E] its weight in that token.
        image: [E] number of the image in the batch.
    """

    image: Tensor
    token: Tensor
    patch: Tensor
    weight: Tensor

    def of(self, image: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token, patch and weight of one image's entries."""
        mine = self.image == image
        return self.token[mine], self.patch[mine], self.weight[mine]

    @staticmethod
    def from_dense(weights: Tensor, counts: Tensor) -> Provenance:
        """From dense weights [B, K, N]; rows beyond an image's count do not enter."""
        valid = torch.arange(weights.shape[1], device=weights.device)[None] < counts[:, None]
        image, token, patch = ((weights != 0) & valid[..., None]).nonzero(as_tuple=True)
        return Provenance(image, token, patch, weights[image, token, patch])


@dataclass(frozen=True)
class Reduction:
    """What a reducer made of the visual tokens of a batch of images.

    Attributes:
        tokens: [B, K, d], raster order unless the method says otherwise, padded at the end.
        counts: [B] tokens of each image.
        provenance: Where they come from.
        stages: Tokens left after each named stage of the method, [B] each.
    """

    tokens: Tensor
    counts: Tensor
    provenance: Provenance
    stages: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def select(features: Tensor, keep: Tensor, stages: dict[str, Tensor] | None = None) -> Reduction:
        """Keep the tokens of ``features`` [B, N, d] where ``keep`` [B, N] is True, in raster order, unchanged."""
        index, counts = compact(keep)
        valid = torch.arange(index.shape[1], device=index.device)[None] < counts[:, None]
        image, token = valid.nonzero(as_tuple=True)
        patch = index[image, token]
        weight = torch.ones(len(patch), dtype=torch.float64, device=index.device)
        return Reduction(gather(features, index), counts, Provenance(image, token, patch, weight), stages or {})

    @staticmethod
    def everything(features: Tensor) -> Reduction:
        """All tokens of ``features`` [B, N, d], unchanged: what keeping everything has to be."""
        return Reduction.select(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device))

    @staticmethod
    def mix(features: Tensor, weights: Tensor, counts: Tensor, stages: dict[str, Tensor] | None = None) -> Reduction:
        """Tokens as weighted sums of patches: weights [B, K, N] over features [B, N, d]."""
        tokens = (weights @ features.double()).to(features.dtype)
        return Reduction(tokens, counts, Provenance.from_dense(weights, counts), stages or {})


@dataclass
class Reducer(ABC):
    """A method; its fields are its hyperparameters and enter a run's identity.

    Class attributes say what kind of method it is:
        title: Name in tables.
        paper: Where it is published.
        site: Where it acts.
        prompt_aware: Whether it looks at the question.
        adaptive: Whether the number of tokens depends on the image when no budget is given.
        control: Whether it is a control rather than a method.
        calibrates: The field that is a threshold to be calibrated for a mean budget, if there is one.
        free: Whether it only picks tokens, with no arithmetic on them, so that its own work is no FLOPs.
        uncalibrated: Fields that the threshold does not depend on, beside budget and name.
        calibration_range: Values of it that keep surely too many and surely too few tokens.
    """

    title: ClassVar[str]
    paper: ClassVar[str] = ""
    site: ClassVar[Literal["pixels", "tower", "tokens", "layers", "mask"]]
    prompt_aware: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    control: ClassVar[bool] = False
    calibrates: ClassVar[str | None] = None
    uncalibrated: ClassVar[tuple[str, ...]] = ()
    calibration_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    free: ClassVar[bool] = False

    budget: int | float | None = None
    name: str = ""

    def check(self, geometry: Geometry) -> None:
        """Refuse a budget that this method cannot deliver on this model.

        Raises:
            ParbenchError: The budget is impossible; says what would be possible.
        """
        if self.adaptive:
            self.asked(geometry)
        else:
            self.count(geometry)

    def asked(self, geometry: Geometry) -> int | None:
        """The budget in tokens for an image of this model, None for the method's own rule."""
        return budgets.resolve(self.budget, geometry.patches, self.name)

    def count(self, geometry: Geometry) -> int:
        """The budget in tokens, for methods that cannot do without one.

        Raises:
            ParbenchError: There is none, or it is impossible.
        """
        asked = self.asked(geometry)
        if asked is None:
            raise ParbenchError(f"method {self.name} needs a budget: use budget=64 or a ratio such as budget=0.111")
        return asked

    @property
    def exact_budget(self) -> bool:
        """Whether every image must come out with exactly the budget (False: only the mean is promised)."""
        return self.budget is not None

    @property
    def open_threshold(self) -> str | None:
        """The field that calibration has to fill in for the budget; None where it is given, or there is none."""
        field = self.calibrates
        return field if field and self.budget is not None and getattr(self, field) is None else None

    @property
    def found_on(self) -> Mapping[str, Any] | None:
        """What the threshold was calibrated on; None where a person gave it, or there is none. A copy with other fields has none."""
        return self.__dict__.get("_found_on")

    def with_threshold(self, value: Any, found_on: Mapping[str, Any]) -> Self:
        """The method with its threshold filled in, and what that was calibrated on."""
        fields: dict[str, Any] = {str(self.calibrates): value}
        filled = dataclasses.replace(self, **fields)
        # Beside the fields, which are what a person can set.
        filled.__dict__["_found_on"] = found_on
        return filled

    @property
    def needs_clip(self) -> bool:
        """Whether it compares text with patches in CLIP's joint space; the text tower then belongs to a run's identity."""
        return False

    @property
    def note(self) -> str:
        """What a reader of a table has to know about its numbers."""
        return ""

    def settings(self) -> dict[str, Any]:
        """Its fields, for a run's identity."""
        return dataclasses.asdict(self)


@dataclass
class PixelReducer(Reducer):
    """Makes the image smaller before the encoder, which then gives fewer tokens."""

    site = "pixels"

    @abstractmethod
    def shrink(self, pixels: Tensor, geometry: Geometry) -> Tensor:
        """[B, 3, H, W] to [B, 3, h, w], sides divisible by the patch size."""

    @abstractmethod
    def origin(self, encoded: Encoded, geometry: Geometry) -> Reduction:
        """The encoded small image as a reduction of the full grid."""


@dataclass
class TowerReducer(Reducer):
    """Merges tokens inside the vision tower, in each block up to the one that LLaVA reads, between attention and MLP.

    Merged tokens become their size-weighted average; attention adds the logarithm of a token's size to its logits, so that a
    token weighs as much as the patches in it. The LLM gets the tokens in raster order of the first patch in each.

    Attributes:
        positions: ``compact``: the shortened sequence counts on without gaps; ``keep``: a token has the position of the first
            patch in it.
    """

    site = "tower"
    positions: str = "compact"

    def __post_init__(self) -> None:
        """Refuse values that no reading of the method has."""
        one_of(self, positions=("compact", "keep"))

    @abstractmethod
    def merge(self, block: int, metric: Tensor, counts: Tensor, geometry: Geometry) -> Merge:
        """Which tokens of each image become one in a block, each image by itself.

        Args:
            block: The 0-based vision block.
            metric: [B, T, m] keys of the block's tokens, mean over heads, CLS first, padded at the end.
            counts: [B] tokens of each image, CLS included.
            geometry: The model's sizes.
        """

    @property
    def unmerges(self) -> bool:
        """Whether the LLM's attention has every patch again, each with what its token has, at its original position."""
        return False

    @abstractmethod
    def merges(self, geometry: Geometry) -> list[int]:
        """Tokens merged at each acting block; where images decide, what the budget means on average."""

    def origin(self, encoded: Encoded, geometry: Geometry) -> Reduction:
        """What the tower gave, with the patches that each token is the average of."""
        if encoded.owner is None:
            raise RuntimeError("the tower ran without merging")
        order = encoded.owner.argsort(dim=1, stable=True)
        token = encoded.owner.gather(1, order)
        size = torch.zeros(encoded.features.shape[:2], dtype=torch.float64, device=token.device)
        size.scatter_add_(1, token, torch.ones_like(token, dtype=size.dtype))
        image = torch.arange(len(token), device=token.device)[:, None].expand_as(token)
        weight = 1 / size.gather(1, token)
        provenance = Provenance(image.flatten(), token.flatten(), order.flatten(), weight.flatten())
        return Reduction(encoded.features, token.amax(1) + 1, provenance)

    def even(self, geometry: Geometry) -> list[int]:
        """Tokens to be merged at each acting block, shared out evenly, so that the budget is left.

        Raises:
            ParbenchError: There is no budget, or so few tokens cannot be reached; says the least.
        """
        budget, length = self.count(geometry), geometry.patches + 1
        plan = even_merges(length, geometry.patches - budget, geometry.read)
        if plan is None:
            for _ in range(geometry.read):
                length -= most_merges(length)
            raise ParbenchError(
                f"budget={budget} of method {self.name} is out of reach: each of {geometry.read} vision blocks merges at most half "
                f"of its tokens, so the least is {length - 1}"
            )
        return plan


@dataclass
class TokenReducer(Reducer):
    """Acts on visual tokens between the vision tower and the LLM.

    Attributes:
        place: Before or after the projector.
        positions: ``compact``: the shortened sequence counts on without gaps; ``keep``: tokens keep their original positions.
    """

    site = "tokens"
    blocks: ClassVar[tuple[int, ...]] = ()

    place: str = "before_projector"
    positions: str = "compact"

    def __post_init__(self) -> None:
        """Refuse values that no reading of the method has."""
        one_of(self, place=("before_projector", "after_projector"), positions=("compact", "keep"))

    @abstractmethod
    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Reduce the tokens of a batch of images, each by itself.

        Args:
            features: [B, N, d] at ``place``.
            probes: What the method may look at for these B images.
        """


@dataclass(frozen=True)
class Choice:
    """What a stage leaves of the visual tokens of E images.

    Attributes:
        keep: [E, N] bool, the tokens that stay.
        scores: [E, N] what was ranked, if anything.
        merge: [E, C, N] weights of new tokens that come behind those that stay, or None.
        merged: [E] how many of them an image has.
    """

    keep: Tensor
    scores: Tensor | None = None
    merge: Tensor | None = None
    merged: Tensor | None = None

    @staticmethod
    def best(view: View, scores: Tensor, count: int | Tensor) -> Choice:
        """Keep the ``count`` best of each image by scores [E, N] (a number, or one an image [E]); ties: lower index."""
        valid = view.valid
        order = scores.masked_fill(~valid, float("-inf")).argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1)
        limit = torch.as_tensor(count, device=rank.device).expand(len(rank))
        return Choice((rank < limit[:, None]) & valid, scores)


@dataclass
class LayerReducer(Reducer):
    """Drops visual tokens inside the LLM, in stages: before some layers, a part of what is left goes.

    Attributes:
        positions: ``keep`` (original position ids) or ``compact`` (counting on without gaps after every stage; while decoding, each
            layer counts from the length of its own cache).
    """

    site = "layers"
    positions: str = "keep"

    def __post_init__(self) -> None:
        """Refuse values that no reading of the method has."""
        one_of(self, positions=("keep", "compact"))

    @abstractmethod
    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The 0-based layers before which tokens are dropped, ascending, each at least 1."""

    @abstractmethod
    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Visual tokens of an image that enter the layer of each stage.

        Raises:
            ParbenchError: The budget is out of reach, or the method decides by the image.
        """

    @abstractmethod
    def choose(self, view: View) -> Choice:
        """What stays at a stage."""

    def by_layer(self, geometry: Geometry) -> list[int]:
        """Visual tokens of an image that enter each layer."""
        counts = [geometry.patches] * geometry.layers
        for layer, left in zip(self.stages(geometry), self.left(geometry), strict=True):
            counts[layer:] = [left] * (geometry.layers - layer)
        return counts

    def check(self, geometry: Geometry) -> None:
        """Refuse layers that the model lacks, and averages that whole tokens cannot meet to within half a token."""
        asked, stages = self.asked(geometry), self.stages(geometry)
        if list(stages) != sorted(set(stages)) or (stages and not 1 <= stages[0] <= stages[-1] < geometry.layers):
            raise ParbenchError(
                f"the layers {', '.join(map(str, stages))} of method {self.name} are no stages: use ascending layers from 1 to "
                f"{geometry.layers - 1}"
            )
        if asked is None:
            return
        average = sum(self.by_layer(geometry)) / geometry.layers
        if abs(average - asked) > 0.5:
            raise ParbenchError(
                f"budget={asked} of method {self.name} is out of reach: the nearest average over the layers is {average:.1f}"
            )

    @property
    def compacts(self) -> bool:
        """Whether positions count on without gaps."""
        return self.positions == "compact"

    @property
    def cached(self) -> bool:
        """Whether decoding goes on from the cache of a sequence that was reduced once (False: all anew for every token)."""
        return True

    @property
    def masked(self) -> bool:
        """Whether tokens are only hidden from attention and still computed; they then count as if they were gone."""
        return False

    def before(self, geometry: Geometry) -> TokenReducer | None:
        """The part of the method that acts before the LLM, for one that has two sites."""
        return None


@dataclass
class MaskReducer(Reducer):
    """Leaves every visual token where it is and masks, inside the LLM, what visual tokens see and compute.

    It is computed and then masked, but counted as if it were skipped.
    """

    site = "mask"

    @property
    def note(self) -> str:
        """It is a simulation."""
        return "every token is computed and masked; FLOPs as if what is masked were skipped, seconds as measured"

    @abstractmethod
    def neighbours(self, geometry: Geometry) -> Tensor | None:
        """[N, N] bool: image keys that each image query of the same image sees; None leaves attention causal."""

    @abstractmethod
    def pruned(self, layer: int) -> list[int]:
        """Heads of a layer that see no image key and give image tokens nothing."""

    @abstractmethod
    def unseen(self, geometry: Geometry) -> int:
        """The layer from which no query sees an image key."""

    @abstractmethod
    def neurons(self, every: int) -> int:
        """Feed-forward neurons that image tokens use, of so many."""

    def check(self, geometry: Geometry) -> None:
        """Refuse budgets: nothing is dropped."""
        if self.asked(geometry) not in (None, geometry.patches):
            raise ParbenchError(
                f"budget={self.budget} of method {self.name} has no use, since every token stays: leave budget=null"
            )

    def skipped(self, config: Any, geometry: Geometry, total: int, images: int) -> int:
        """FLOPs (2 per multiply-add) of a prefill that a real implementation would not spend.

        Projections are spent in full; attention counts as dense, as everywhere.

        Args:
            config: The LLM's configuration.
            geometry: The model's sizes.
            total: Tokens of the sequence.
            images: Images in it.
        """
        visual, near = images * geometry.patches, self.neighbours(geometry)
        hidden_pairs = images * (geometry.patches**2 - int(near.sum())) if near is not None else 0
        heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        neurons = config.intermediate_size - self.neurons(config.intermediate_size)
        saved = 0
        for layer in range(config.num_hidden_layers):
            pruned = len(self.pruned(layer))
            # Pairs of query and key that a head leaves out; each costs a product with the key and one with the value.
            whole = hidden_pairs if layer < self.unseen(geometry) else total * visual
            alone = total * visual + visual * (total - visual)
            saved += 4 * width * ((heads - pruned) * whole + pruned * alone)
            saved += 2 * 3 * config.hidden_size * neurons * visual
        return saved


def one_of(reducer: Reducer, **allowed: Sequence[Any]) -> None:
    """Check that fields hold one of the allowed values.

    Raises:
        ParbenchError: A field does not; it is named with what is allowed.
    """
    for name, values in allowed.items():
        if getattr(reducer, name) not in values:
            options = ", ".join(str(value) for value in values)
            raise ParbenchError(
                f"method.{name}={getattr(reducer, name)} is no reading of {reducer.title}: use one of {options}"
            )

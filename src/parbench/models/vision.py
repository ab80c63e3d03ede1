"""The vision side of a LLaVA: features of images, and the inner activations that methods need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from parbench.errors import UnfitSample
from parbench.models.attention import AttentionInputs
from parbench.models.listening import listening
from parbench.models.merging import Merger, merge_blocks
from parbench.models.parts import Parts

# The vision block whose output the LLM reads: LLaVA-1.5's, counted from the end. Other families put their own in its place.
READ_BLOCK = -2


class WithValues(int):
    """A vision block whose values are captured too, beside its queries and keys. It equals the plain number."""


# Maximum pixels of a resized image: Pillow's limit for decompression bombs.
_MOST_PIXELS = 178_956_970


@dataclass(frozen=True)
class Encoded:
    """The output of the vision tower for a batch of images, or of parts of images, with the same number of tokens.

    Attributes:
        features: [B, N, C] the hidden state that LLaVA reads, without CLS; [B, K, C] padded at the end if tokens were merged.
            If ``projected``, [B, N, d] the tokens in the LLM's embedding space.
        cls: [B, C] the CLS token of the same hidden state; None if there is none.
        grid: Rows and columns of tokens; N is their product. (0, 0) if they form no grid.
        lengths: [B, blocks + 1] tokens of each image that enter each block and leave the last one, including CLS.
        queries: For each requested block, the queries of all heads side by side, [B, N + 1, C], CLS first.
        keys: The same for its keys.
        values: The same for its values, for blocks that were requested as :class:`WithValues`.
        owner: [B, N] the token into which each patch was merged, -1 if it was dropped; None if the tower merges and drops nothing.
        work: FLOPs of choosing the tokens to merge or drop, per image.
        projected: Whether the features went through the connector already.
        saliency: For each requested block, [B, heads, N] in float64: attention of CLS to each token. Empty in a tower without CLS,
            and if it follows from ``queries`` and ``keys``.
        received: For each requested block, [B, heads, N] in float64: attention that each token receives, mean over all queries.
            Empty if it follows from ``queries`` and ``keys``.
        raw_saliency: For each requested block, [B, N] in float64: attention of CLS, or in a tower without CLS the attention that
            each token receives, before the softmax, mean over heads (and queries).
        token_keys: For each requested block, [B, heads, N, width] its keys, mean over the patches of a token.
        streams: [B, layers, N, d] what is added to the tokens behind the first layers of the LLM (DeepStack); None without.
        separators: [B, S, d] embeddings of tokens that show nothing of the image, such as newlines; None without.
        parts: How these images are cut into parts, all of them alike; None if they have one, or if it does not matter.
    """

    features: Tensor
    cls: Tensor | None
    grid: tuple[int, int]
    lengths: Tensor
    queries: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    owner: Tensor | None = None
    work: int = 0
    projected: bool = False
    saliency: dict[int, Tensor] = field(default_factory=dict)
    raw_saliency: dict[int, Tensor] = field(default_factory=dict)
    received: dict[int, Tensor] = field(default_factory=dict)
    token_keys: dict[int, Tensor] = field(default_factory=dict)
    streams: Tensor | None = None
    separators: Tensor | None = None
    parts: Parts | None = None

    def take(self, index: Tensor) -> Encoded:
        """The images at ``index`` [M], which may repeat."""
        return self._each(lambda value: value[index])

    def split(self) -> list[Encoded]:
        """Each image alone, without copies."""
        return [self._each(partial(_row, at=at)) for at in range(len(self.features))]

    def tokens_at(self, index: Tensor, grid: tuple[int, int]) -> Encoded:
        """The tokens at ``index`` [M] of every image, which form ``grid``. Separators are left out."""
        return replace(
            self,
            features=self.features[:, index],
            grid=grid,
            saliency={block: value[:, :, index] for block, value in self.saliency.items()},
            raw_saliency={block: value[:, index] for block, value in self.raw_saliency.items()},
            received={block: value[:, :, index] for block, value in self.received.items()},
            token_keys={block: value[:, :, index] for block, value in self.token_keys.items()},
            streams=None if self.streams is None else self.streams[:, :, index],
            separators=None,
            parts=None,
        )

    def has(self, block: int) -> bool:
        """Whether the inner activations of a vision block are there."""
        if isinstance(block, WithValues):
            return block in self.values
        return block in self.queries or block in self.received

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(value.nbytes for value in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; those of a block as ``queries.-2``."""
        found = {name: value for name in _TENSORS if (value := getattr(self, name)) is not None}
        return found | {f"{name}.{block}": value for name in _BY_BLOCK for block, value in getattr(self, name).items()}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], grid: tuple[int, int], *, projected: bool) -> Encoded:
        """The inverse of :meth:`tensors`."""
        blocks: dict[str, dict[int, Tensor]] = {name: {} for name in _BY_BLOCK}
        for name, value in tensors.items():
            kind, dot, block = name.partition(".")
            if dot:
                blocks[kind][int(block)] = value
        fields: dict[str, Any] = {name: tensors.get(name) for name in _TENSORS} | blocks
        return Encoded(grid=grid, projected=projected, **fields)

    def beside(self, other: Encoded) -> Encoded:
        """The same images, with the blocks of both."""
        both: dict[str, Any] = {name: {**getattr(other, name), **getattr(self, name)} for name in _BY_BLOCK}
        return replace(self, **both)

    @staticmethod
    def stack(parts: Sequence[Encoded], blocks: Sequence[int]) -> Encoded:
        """Several images with the same number of tokens as one batch, with the given blocks."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]

        def together(name: str) -> Tensor | None:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else torch.cat(values)

        plain: dict[str, Any] = {name: together(name) for name in _TENSORS}
        for name in _BY_BLOCK:
            every = [getattr(part, name) for part in parts]
            # Some images may have more than was asked for, cached for another method.
            there = [block for block in blocks if all(block in one for one in every)]
            plain[name] = {block: torch.cat([one[block] for one in every]) for block in there}
        return Encoded(grid=first.grid, work=first.work, projected=first.projected, parts=first.parts, **plain)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Encoded:
        """The same with every tensor changed."""
        made: dict[str, Any] = {name: None if (value := getattr(self, name)) is None else change(value) for name in _TENSORS}
        made |= {name: {block: change(value) for block, value in getattr(self, name).items()} for name in _BY_BLOCK}
        return replace(self, **made)


def _row(value: Tensor, at: int) -> Tensor:
    return value[at : at + 1]


_TENSORS = ("features", "cls", "lengths", "owner", "streams", "separators")
_BY_BLOCK = ("queries", "keys", "values", "saliency", "received", "raw_saliency", "token_keys")


@contextmanager
def capture_blocks(tower: Any, blocks: Sequence[int]) -> Iterator[dict[str, dict[int, Tensor]]]:
    """Inside the block, a forward pass of ``tower`` stores ``queries``, ``keys`` and, where asked for, ``values`` of the blocks.

    The attention kernel returns no weights. Computing them again is cheaper than another kernel for the whole tower.
    """
    found: dict[str, dict[int, Tensor]] = {"queries": {}, "keys": {}, "values": {}}
    numbers: dict[Any, list[int]] = {}
    for block in blocks:
        # -1 may be named beside the number of the same block.
        numbers.setdefault(tower.encoder.layers[block].self_attn, []).append(block)

    def keep(blocks: Sequence[int], heard: AttentionInputs) -> None:
        for block in blocks:
            for name, by_block in found.items():
                if name != "values" or isinstance(block, WithValues):
                    by_block[block] = getattr(heard, name).transpose(1, 2).flatten(2)

    with listening({attention: partial(keep, blocks) for attention, blocks in numbers.items()}):
        yield found


def process(processor: Any, images: Sequence[Image.Image]) -> Tensor:
    """Images as pixels [B, 3, H, W] in float32, by a Hugging Face image processor.

    Raises:
        UnfitSample: An image would need too much memory. (The processor resizes the shorter side before it crops the longer one.)
    """
    shortest = getattr(processor.size, "shortest_edge", None) or 0
    for image in images:
        scale = shortest / min(image.size)
        width, height = round(scale * image.width), round(scale * image.height)
        if width * height > _MOST_PIXELS:
            raise UnfitSample(
                f"an image of {image.width} x {image.height} pixels is too long: the processor would resize it to {width} x "
                f"{height} "
                "before it crops the centre"
            )
    try:
        found: Tensor = processor(images=list(images), return_tensors="pt").pixel_values
        return found
    except MemoryError as error:
        sizes = ", ".join(sorted({f"{image.width} x {image.height}" for image in images}))
        raise UnfitSample(f"not enough memory to preprocess images of {sizes} pixels") from error


def encode(model: Any, pixels: Tensor, blocks: Sequence[int] = (), merger: Merger | None = None) -> Encoded:
    """Run the vision tower as LLaVA does.

    Args:
        model: A ``LlavaForConditionalGeneration``.
        pixels: [B, 3, H, W]; for sides other than the tower's, its position embeddings are interpolated.
        blocks: Vision blocks whose queries and keys are returned; negative counts from the end.
        merger: Chooses the tokens to merge or drop in each block; None to leave all.

    Returns:
        The features, bit-identical to those that the projector reads in LLaVA, and the requested activations.
    """
    tower, config = model.model.vision_tower, model.config
    patch, own = config.vision_config.patch_size, config.vision_config.image_size
    grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
    resized = tuple(pixels.shape[-2:]) != (own, own)
    arguments = {"interpolate_pos_encoding": True} if resized else {}
    layer = config.vision_feature_layer
    if merger is not None:
        with merge_blocks(tower, merger, layer % (len(tower.encoder.layers) + 1)) as merging:
            hidden = tower(pixels, output_hidden_states=True, return_dict=True, **arguments).hidden_states
        tokens, owner = merging.raster(hidden[layer])
        work = merging.flops // len(pixels)
        return Encoded(tokens, hidden[layer][:, 0], grid, merging.lengths(hidden), owner=owner, work=work)
    with capture_blocks(tower, blocks) as captured:
        hidden = tower(pixels, output_hidden_states=True, return_dict=True, **arguments).hidden_states
    read = hidden[layer]
    lengths = torch.tensor([[state.shape[1] for state in hidden]] * len(pixels), device=pixels.device)
    # The tower's blocks may be on several devices.
    queries, keys, values = (
        {block: value.to(read.device) for block, value in captured[name].items()} for name in ("queries", "keys", "values")
    )
    return Encoded(read[:, 1:], read[:, 0], grid, lengths, queries, keys, values)

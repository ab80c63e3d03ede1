"""The vision tower of a family: its blocks, and running it over preprocessed images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from parbench.errors import UnfitSample
from parbench.models.families.hearing import Rows, hearing
from parbench.models.families.prepared import ImageTokens, Prepared
from parbench.models.vision import READ_BLOCK, Encoded


class TowerHalf:
    """What a family says of its vision tower, and how the tower runs over images.

    Attributes:
        model: The Hugging Face model.
    """

    offers: ClassVar[frozenset[str]]
    model: Any

    @property
    def tower(self) -> Any:
        """The vision tower."""
        return self.model.model.vision_tower

    @property
    def blocks(self) -> Sequence[Any]:
        """The attention modules of the tower's blocks."""
        return [layer.self_attn for layer in self.tower.encoder.layers]

    @property
    def read_block(self) -> int:
        """The block that stands for ``READ_BLOCK``: the last one whose output the LLM reads."""
        return len(self.blocks) - 1

    def heard_block(self, block: int) -> int:
        """The block whose attention stands for that of ``block``."""
        return block

    @property
    def has_cls(self) -> bool:
        """Whether the first row of each part in the tower is a CLS token."""
        return "cls" in self.offers

    def encode(self, images: Sequence[Prepared], blocks: Sequence[int]) -> list[Encoded]:
        """Run the vision tower and the connector over images, as Hugging Face does for a batch of them.

        Args:
            images: The preprocessed images.
            blocks: Vision blocks whose attention is returned; ``READ_BLOCK`` is the family's own.

        Returns:
            For each image, its tokens in the LLM's space [1, N, d] without separators, and what was asked for.
        """
        passes = [self.tower_pass(image) for image in images]
        if len(set(passes)) > 1:
            parts: dict[int, list[Prepared]] = {}
            for image, number in zip(images, passes, strict=True):
                parts.setdefault(number, []).append(image)
            found = {number: iter(self.encode(part, blocks)) for number, part in parts.items()}
            return [next(found[number]) for number in passes]
        features = self.model.model.get_video_features if passes[0] else self.model.model.get_image_features
        modules = {block: self.blocks[self.read_block if block == READ_BLOCK else self.heard_block(block)] for block in blocks}
        with hearing(modules, cls=self.has_cls) as heard:
            inputs = self.collate([image.tensors for image in images])
            output = features(**inputs, return_dict=True)
        flat = _flat(output.pooler_output)
        deep = [_flat(stream) for stream in getattr(output, "deepstack_features", None) or ()]
        if len(flat) != sum(len(image.tokens.source) for image in images):
            raise UnfitSample("the vision tower gives another number of tokens than the processor announced")
        ready = {block: one.done() for block, one in heard.items()}
        encoded, token, row = [], 0, 0
        for image in images:
            tokens = image.tokens
            mine = slice(token, token + len(tokens.source))
            streams = torch.stack([stream[mine] for stream in deep]) if deep else None
            inner = {block: one.of(tokens.members + row) for block, one in ready.items()}
            encoded.append(self._encoded(tokens, flat[mine], streams, inner))
            token, row = token + len(tokens.source), row + tokens.rows
        return encoded

    def _encoded(self, tokens: ImageTokens, flat: Tensor, streams: Tensor | None, inner: Mapping[int, Rows]) -> Encoded:
        source = tokens.source
        content = source.content.to(flat.device)
        return Encoded(
            flat[content][None],
            None,
            tokens.grid_of_tokens,
            torch.full((1, len(self.blocks) + 1), tokens.rows, device=flat.device),
            projected=True,
            saliency={block: rows.of_cls[None] for block, rows in inner.items() if rows.of_cls is not None},
            raw_saliency={block: rows.raw[None] for block, rows in inner.items()},
            received={block: rows.received[None] for block, rows in inner.items()},
            token_keys={block: rows.keys[None] for block, rows in inner.items()},
            streams=None if streams is None else streams[:, content][None],
            separators=flat[source.separator.to(flat.device)][None],
        )

    def tower_pass(self, image: Prepared) -> int:
        """What goes through the tower together has one number: as in Hugging Face, images (0) in one pass and videos in another."""
        return int("pixel_values_videos" in image.tensors)

    def collate(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The inputs of several images as those of one batch, on the model's device and in its dtype."""
        device, dtype = self.model.device, self.model.dtype
        made = {}
        for name in images[0]:
            value = self.joined(name, [image[name] for image in images]).to(device)
            made[name] = value.to(dtype) if value.is_floating_point() else value
        return made

    def joined(self, _name: str, values: Sequence[Tensor]) -> Tensor:
        """One input of several images, each for a batch of one."""
        return torch.cat(list(values))


def _flat(features: Any) -> Tensor:
    """Features of several images, one after the other, [n, d]."""
    return torch.cat(list(features)) if isinstance(features, list | tuple) else features.flatten(0, 1)

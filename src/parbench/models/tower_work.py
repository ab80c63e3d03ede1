"""What a vision tower of any family computes for an image: patches, attention and tokens for the LLM, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from torch import Tensor

from parbench.models.skeleton import skeleton


class BlockWork(NamedTuple):
    """What one vision block computes.

    Attributes:
        tokens: Its tokens, including CLS.
        pairs: Pairs of a query and a key. Attention stays within tiles, images or windows: the sum of their squared lengths.
    """

    tokens: int
    pairs: int


@dataclass(frozen=True)
class TowerWork:
    """What a vision tower and its projector compute for an image.

    Attributes:
        patches: Patches that are embedded.
        blocks: The work of each block.
        groups: Tokens that leave the projector, before any are dropped as padding.
    """

    patches: int
    blocks: tuple[BlockWork, ...]
    groups: int


def tower_work(config: Any, tensors: Mapping[str, Tensor]) -> TowerWork:
    """The work for the images that a Hugging Face processor prepared.

    Args:
        config: The model's Hugging Face configuration.
        tensors: The processor's output: ``pixel_values`` [..., 3, H, W] of whole images, crops or tiles of one size; or patches
            in a row and ``image_grid_thw`` [images, 3], their time, rows and columns.
    """
    if "image_grid_thw" in tensors:
        return _packed(config, tensors["image_grid_thw"])
    *parts, _, height, width = tensors["pixel_values"].shape
    return _tiled(config, prod(parts), height, width)


def _tiled(config: Any, parts: int, height: int, width: int) -> TowerWork:
    """Parts of one size, each with attention of its own."""
    vision = config.vision_config
    side = _side(vision.patch_size)
    patches = (height // side) * (width // side)
    tokens = patches + skeleton(config).has_cls
    block = BlockWork(parts * tokens, parts * tokens**2)
    return TowerWork(parts * patches, (block,) * len(skeleton(config).blocks), parts * _groups(config, patches, tokens))


def _packed(config: Any, grids: Tensor) -> TowerWork:
    """Images of any shape in a row; some blocks attend to windows of them."""
    from transformers.vision_utils import get_vision_cu_seqlens, get_vision_window_index

    vision, blocks = config.vision_config, len(skeleton(config).blocks)
    grids = grids.cpu()
    images = _lengths(get_vision_cu_seqlens(grids))
    full = BlockWork(sum(images), _pairs(images))
    found = [full] * blocks
    if whole := getattr(vision, "fullatt_block_indexes", None):
        _, ends = get_vision_window_index(grids, vision.spatial_merge_size, vision.window_size, vision.patch_size)
        windowed = BlockWork(full.tokens, _pairs(_lengths(ends)))
        found = [full if number in whole else windowed for number in range(blocks)]
    return TowerWork(full.tokens, tuple(found), full.tokens // vision.spatial_merge_size**2)


def _groups(config: Any, patches: int, tokens: int) -> int:
    """Tokens of the LLM that the projector makes of a tile. A family says in its own words how many patches become one."""
    if (found := getattr(config, "mm_tokens_per_image", None)) is not None:
        return int(found)
    if (factor := getattr(config, "scale_factor", None)) is not None:
        return patches // int(factor) ** 2
    if (ratio := getattr(config, "downsample_ratio", None)) is not None:
        return round(patches * float(ratio) ** 2)
    return patches if getattr(config, "vision_feature_select_strategy", "default") == "default" else tokens


def _side(patch: int | Sequence[int]) -> int:
    return int(patch if isinstance(patch, int) else patch[0])


def _lengths(ends: Tensor) -> list[int]:
    """Lengths of segments [n], from their cumulative sums [n + 1]."""
    found: list[int] = ends.diff().tolist()
    return found


def _pairs(lengths: Sequence[int]) -> int:
    return sum(length**2 for length in lengths)

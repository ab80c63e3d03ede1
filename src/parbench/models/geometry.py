"""Sizes of a model, from its configuration without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from parbench.models.offers import EVERYTHING

if TYPE_CHECKING:
    from parbench.models.families.prepared import ImageTokens

# Side of the grid that stands for images of any size: LLaVA-1.5's.
_SIDE = 24


@dataclass(frozen=True)
class Geometry:
    """The sizes of a model, or of one image in it, that determine which budgets a method can deliver.

    Attributes:
        rows: Rows of the grid of visual tokens; 0 if the tokens form no grid.
        columns: Columns of that grid.
        layers: LLM layers.
        blocks: Vision blocks.
        patch: Side of a patch in pixels.
        feature: Index of the tower's hidden state that LLaVA reads (0: the embeddings; negative counts from the end).
        tokens: Visual tokens of an image without reduction, if they are not the cells of the grid. Where ``varies`` and no image is
            meant, those of a typical one.
        varies: Whether the number of visual tokens depends on the image. Then a budget above it keeps every token.
        family: The family of models, in words.
        offers: What it has of that which methods may need; see :mod:`parbench.models.offers`.
        square: Whether the vision tower sees the centre square of an image alone, and not all of it.
        frames: Frames of a video that have tokens of their own; 1 for an image.
        videos: Whether the family reads videos.
    """

    rows: int
    columns: int
    layers: int
    blocks: int
    patch: int
    feature: int = -2
    tokens: int | None = None
    varies: bool = False
    family: str = "LLaVA-1.5"
    offers: frozenset[str] = EVERYTHING
    square: bool = True
    frames: int = 1
    videos: bool = False

    @property
    def patches(self) -> int:
        """Visual tokens of an image without reduction."""
        return self.rows * self.columns if self.tokens is None else self.tokens

    def of_image(self, tokens: int, grid: tuple[int, int], frames: int = 1) -> Geometry:
        """The geometry of an image or a video with some visual tokens, in a grid or, with (0, 0), in none."""
        if not self.varies:
            return self
        return replace(self, rows=grid[0], columns=grid[1], tokens=tokens, frames=frames)

    def of_tokens(self, tokens: ImageTokens) -> Geometry:
        """The geometry of an image or a video, from its tokens in a prompt; see :meth:`of_image`."""
        return self.of_image(len(tokens.source.content), tokens.grid_of_tokens, tokens.source.frames)

    @property
    def of_videos(self) -> Geometry:
        """The same for data of videos, whose frames form no grid together."""
        return replace(self, offers=self.offers - {"grid"}, family=f"a video in {self.family}")

    @property
    def any_image(self) -> Geometry:
        """The geometry itself; for a model whose images differ, that of an image of 576 tokens, the same for all of them."""
        return self.of_image(_SIDE**2, (_SIDE, _SIDE))

    @property
    def read(self) -> int:
        """Number of vision blocks up to the hidden state that LLaVA reads."""
        return self.feature % (self.blocks + 1)


def geometry_of(config: Any) -> Geometry:
    """The geometry of a model from its Hugging Face configuration."""
    from parbench.models.families import Generic, family_type

    family = family_type(config.model_type) or Generic
    vision, text = config.vision_config, config.get_text_config()
    side = 0 if family.varies else family.side(config)
    blocks = getattr(vision, "depth", None) or vision.num_hidden_layers
    patch = vision.patch_size[0] if isinstance(vision.patch_size, list | tuple) else vision.patch_size
    feature = getattr(config, "vision_feature_layer", -1)
    offers = family.offers | own_heads(text.num_attention_heads, getattr(text, "num_key_value_heads", None))
    tokens = None if side else family.typical(config)
    sizes = (side, side, text.num_hidden_layers, blocks, patch, feature, tokens)
    return Geometry(
        *sizes, varies=family.varies, family=family.title, offers=offers, square=family.square, videos=family.reads_videos
    )


def own_heads(heads: int | None, key_heads: int | None) -> frozenset[str]:
    """What an LLM with some attention heads offers, of which some share their keys and values."""
    return frozenset({"heads"} if key_heads in (None, heads) else ())

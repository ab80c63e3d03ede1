"""An image as a family prepares it: inputs of the vision tower, and what it becomes in a prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from parbench.models.source import Source
from parbench.models.tower_work import TowerWork


@dataclass(frozen=True)
class ImageTokens:
    """What an image of some size becomes in a prompt.

    Attributes:
        text: Replaces the image's placeholder in a prompt. Each run of visual tokens is written as one token.
        runs: The length of each run.
        source: Where each visual token comes from.
        members: [N, g] for each visual token that is no separator, the rows of the vision tower that it is made of.
        rows: Rows of the vision tower for this image: patches of all parts, and a CLS token of each part if there are any.
        grid: [1, 3] time, rows and columns of patches, for models with multimodal rotary positions.
        work: What the vision tower and the connector compute for it; None if that follows from its rows (LLaVA-1.5).
        seconds: For frames of a video, the time between two steps of the grid; None for an image.
    """

    text: str
    runs: tuple[int, ...]
    source: Source
    members: Tensor
    rows: int
    grid: Tensor | None = None
    work: TowerWork | None = None
    seconds: float | None = None

    @property
    def kind(self) -> str:
        """Image or video."""
        return "image" if self.seconds is None else "video"

    @property
    def grid_of_tokens(self) -> tuple[int, int]:
        """Rows and columns of the visual tokens; (0, 0) for several parts, which form no grid."""
        parts = self.source.parts
        return (parts[0].rows, parts[0].columns) if len(parts) == 1 else (0, 0)


@dataclass(frozen=True)
class Prepared:
    """An image as its family's processor prepares it.

    Attributes:
        tensors: Inputs of the vision tower by Hugging Face's names, for a batch of this image alone.
        tokens: Its tokens in a prompt.
    """

    tensors: Mapping[str, Tensor]
    tokens: ImageTokens

    def to(self, device: torch.device, dtype: torch.dtype) -> Prepared:
        """The same on a device, with floating-point tensors in a dtype."""
        moved = {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device) for name, value in self.tensors.items()
        }
        return Prepared(moved, self.tokens)


class Recent:
    """The tokens of images of the sizes that were seen last. Safe to use from several threads."""

    # An image of 2,900 tokens takes 0.2 MB.
    _MOST = 256

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, int, int], ImageTokens] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, int, int]) -> ImageTokens | None:
        """The tokens of images with some width and height, beside a number of others in their sample; None if forgotten or new."""
        with self._lock:
            if (found := self._held.get(key)) is not None:
                self._held.move_to_end(key)
            return found

    def put(self, key: tuple[int, int, int], tokens: ImageTokens) -> ImageTokens:
        """Remember tokens, and return those that are remembered."""
        with self._lock:
            self._held[key] = tokens
            while len(self._held) > self._MOST:
                self._held.popitem(last=False)
        return tokens

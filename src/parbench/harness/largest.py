"""How many visual tokens a question of a data set may have, where they depend on its images."""

from __future__ import annotations

import contextlib

from PIL import Image

from parbench.clips import Clip
from parbench.errors import UnfitSample
from parbench.harness.datasets import PreparedDataset
from parbench.models.adapter import LlavaAdapter
from parbench.models.families import ImageTokens

# Questions whose images are looked at. If a later one is larger and its batch does not fit, the batch is halved.
_LOOKED_AT = 32


def most_tokens(adapter: LlavaAdapter, dataset: PreparedDataset) -> int:
    """The most visual tokens and separators of a question, over questions spread over a data set.

    The same data always give the same number. Questions whose images cannot be read are left out.
    """
    number = len(dataset.rows)
    found = [1]
    for row in range(0, number, max(1, number // _LOOKED_AT)):
        with contextlib.suppress(UnfitSample):
            visuals = dataset.visuals(row)
            found.append(sum(len(tokens_of(adapter, visual, len(visuals)).source) for visual in visuals))
    return max(found)


def tokens_of(adapter: LlavaAdapter, visual: Image.Image | Clip, together: int) -> ImageTokens:
    """The tokens of an image or a video of a question.

    Args:
        adapter: The model.
        visual: The image or video.
        together: Number of those of the question.

    Raises:
        UnfitSample: The model's processor refuses it.
    """
    if isinstance(visual, Clip):
        return adapter.prepare(visual).tokens
    return adapter.family.tokens_of(visual.size, together)

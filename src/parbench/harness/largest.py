"""How many visual tokens a question of a data set may have, where they depend on its images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from PIL import Image

from parbench.clips import Clip, times_of
from parbench.errors import UnfitSample
from parbench.harness.datasets import PreparedDataset
from parbench.models.adapter import ModelAdapter
from parbench.models.families import Family, ImageTokens

# Questions whose images are looked at. If a later one is larger and its batch does not fit, the batch is halved.
_LOOKED_AT = 32


def most_tokens(adapter: ModelAdapter, dataset: PreparedDataset) -> int:
    """The most visual tokens and separators of a question, over questions spread over a data set.

    The same data always give the same number. Questions whose images cannot be read are left out.
    """
    number = len(dataset.rows)
    found = [1]
    for row in range(0, number, max(1, number // _LOOKED_AT)):
        with contextlib.suppress(UnfitSample):
            visuals = dataset.visuals(row)
            found.append(sum(len(one.source) for one in tokens_of(adapter.family, visuals)))
    return max(found)


def tokens_of(family: Family, visuals: Sequence[Image.Image | Clip]) -> list[ImageTokens]:
    """The tokens of the images and videos of a question, without preprocessing them.

    Args:
        family: The model's family.
        visuals: All of the question.

    Raises:
        UnfitSample: The model's processor refuses one.
    """
    return [family.tokens_sized(visual.size, times_of(visual), len(visuals)) for visual in visuals]

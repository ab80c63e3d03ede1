"""How many visual tokens a question of a data set may have, where they depend on its images."""

from __future__ import annotations

import contextlib

from parbench.errors import UnfitSample
from parbench.harness.datasets import PreparedDataset
from parbench.models.adapter import LlavaAdapter

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
            sizes = [image.size for image in dataset.visuals(row)]
            found.append(sum(len(adapter.family.tokens_of(size, len(sizes)).source) for size in sizes))
    return max(found)

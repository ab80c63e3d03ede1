"""For which question of a conversation a method chooses the visual tokens that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.errors import ParbenchError
from parbench.reducers import FeedForwardReducer

if TYPE_CHECKING:
    from parbench.harness.datasets import PreparedDataset
    from parbench.reducers import Reducer

# What the runs of methods say that do not look at the prompt: they keep the same tokens in all three ways.
ANY = "any"


def turns_of(asked: str | None, reducer: Reducer, dataset: PreparedDataset) -> str | None:
    """How a method chooses tokens for the turns of a data set.

    Args:
        asked: The configured value, which fits the data set; None for the default, ``first``.
        reducer: The method.
        dataset: The data set.

    Returns:
        ``first``, ``each``, ``union``, ``ANY`` if the method does not look at the prompt, or None if the data set has no
        conversations.

    Raises:
        ParbenchError: The method keeps no KV cache to reuse, or one without tokens that a prefill sees.
    """
    if not dataset.settings.get("turn"):
        return None
    how = asked or "first"
    if reducer.site == FeedForwardReducer.site:
        if how != "each":
            raise ParbenchError(
                f"turns={how} goes on from a KV cache, from which method {reducer.name} has removed what the prefill of a later "
                "turn would see: use turns=each"
            )
        return how
    if not reducer.prompt_aware:
        return ANY
    if how != "each" and not getattr(reducer, "cached", True):
        raise ParbenchError(
            f"turns={how} reuses a KV cache, and method {reducer.name} with these settings works without one: use turns=each"
        )
    return how

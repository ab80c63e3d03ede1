"""Methods that reduce visual tokens, and their base classes.

The classes are imported on first access, so modules such as ``budget`` can be imported without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parbench.reducers.base import Reducer, one_of
    from parbench.reducers.provenance import Provenance, Reduction
    from parbench.reducers.sites.clips import ClipReducer
    from parbench.reducers.sites.feedforward import FeedForwardReducer
    from parbench.reducers.sites.keys import KeyReducer
    from parbench.reducers.sites.layers import Choice, LayerReducer
    from parbench.reducers.sites.mask import MaskReducer
    from parbench.reducers.sites.pixels import PixelReducer
    from parbench.reducers.sites.tokens import TokenReducer
    from parbench.reducers.sites.tower import TowerReducer

__all__ = [
    "Choice",
    "ClipReducer",
    "FeedForwardReducer",
    "KeyReducer",
    "LayerReducer",
    "MaskReducer",
    "PixelReducer",
    "Provenance",
    "Reducer",
    "Reduction",
    "TokenReducer",
    "TowerReducer",
    "one_of",
]

_HOMES = {
    "Choice": "sites.layers",
    "ClipReducer": "sites.clips",
    "FeedForwardReducer": "sites.feedforward",
    "KeyReducer": "sites.keys",
    "LayerReducer": "sites.layers",
    "MaskReducer": "sites.mask",
    "PixelReducer": "sites.pixels",
    "Provenance": "provenance",
    "Reducer": "base",
    "Reduction": "provenance",
    "TokenReducer": "sites.tokens",
    "TowerReducer": "sites.tower",
    "one_of": "base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

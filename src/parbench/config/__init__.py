"""Hydra configuration: its options, its composition, and clear errors for invalid overrides.

Functions are imported on first access, so that the names in ``conf/`` can be listed without importing Hydra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parbench.config.compose import build_reducer, compose_config
    from parbench.config.groups import conf_folder, names
    from parbench.config.shard import parse_shard

__all__ = ["build_reducer", "compose_config", "conf_folder", "names", "parse_shard"]

_HOMES = {
    "build_reducer": "compose",
    "compose_config": "compose",
    "conf_folder": "groups",
    "names": "groups",
    "parse_shard": "shard",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

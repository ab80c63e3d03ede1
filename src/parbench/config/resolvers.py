"""What parbench's configurations compute: the places of what is shipped, and one of two values."""

from __future__ import annotations

from omegaconf import OmegaConf

from parbench.models.assets import asset


def register_resolvers() -> None:
    """OmegaConf keeps resolvers for the whole process, so parbench's have its name in theirs and stand in nobody's way."""
    OmegaConf.register_new_resolver("parbench.asset", asset, replace=True)
    OmegaConf.register_new_resolver("parbench.choose", lambda condition, yes, no: yes if condition else no, replace=True)

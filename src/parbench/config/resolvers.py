"""What parbench's configurations compute: the places of what is shipped, and one of two values."""

from __future__ import annotations

from omegaconf import OmegaConf


def register_resolvers() -> None:
    """OmegaConf keeps resolvers for the whole process, so parbench's have its name in theirs and stand in nobody's way."""
    OmegaConf.register_new_resolver("parbench.asset", _asset, replace=True)
    OmegaConf.register_new_resolver("parbench.choose", lambda condition, yes, no: yes if condition else no, replace=True)


def _asset(name: str) -> str:
    from parbench.models.loading import asset

    return asset(name)

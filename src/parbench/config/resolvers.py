"""OmegaConf resolvers of parbench's configurations: paths of shipped files, and a choice between two values."""

from __future__ import annotations

from omegaconf import OmegaConf

from parbench.models.assets import asset


def register_resolvers() -> None:
    """Register parbench's resolvers; they are global to the process, so their names contain ``parbench``."""
    OmegaConf.register_new_resolver("parbench.asset", asset, replace=True)
    OmegaConf.register_new_resolver("parbench.choose", lambda condition, yes, no: yes if condition else no, replace=True)

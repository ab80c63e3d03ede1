"""``parbench config``: the configuration that overrides compose, as YAML."""

from __future__ import annotations

from omegaconf import OmegaConf

from parbench.commands.parsing import Given
from parbench.config import compose_config


def run(given: Given) -> None:
    """Print it, interpolations resolved."""
    print(OmegaConf.to_yaml(compose_config(given.rest), resolve=True), end="")

"""``parbench config``: the composed configuration as YAML."""

from __future__ import annotations

from omegaconf import OmegaConf

from parbench.commands.parsing import Given
from parbench.config import compose_config


def run(given: Given) -> None:
    """Print the configuration, with interpolations resolved.

    Raises:
        ParbenchError: An override is wrong.
    """
    print(OmegaConf.to_yaml(compose_config(given.rest), resolve=True), end="")

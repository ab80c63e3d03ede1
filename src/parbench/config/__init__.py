"""Configuration by Hydra: what can be chosen, composing it, and words for what is wrong with an override."""

from parbench.config.compose import build_reducer, compose_config
from parbench.config.groups import conf_folder, names
from parbench.config.shard import parse_shard

__all__ = ["build_reducer", "compose_config", "conf_folder", "names", "parse_shard"]

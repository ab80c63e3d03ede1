"""Hydra configuration: composing it, and clear words for what is wrong with an override."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from parbench.errors import ParbenchError, unknown


def conf_folder() -> Path:
    """The Hydra configs: in the package when installed from a wheel, else the repository's top level."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def names(group: str) -> list[str]:
    """Names in a group of ``conf/``, such as the known methods."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def _asset(name: str) -> str:
    from parbench.models.loading import asset

    return asset(name)


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The whole configuration for a list of Hydra overrides.

    Raises:
        ParbenchError: An override names an unknown group, option or key, or cannot be parsed.
    """
    OmegaConf.register_new_resolver("asset", _asset, replace=True)
    _check_options(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        try:
            return compose("config", overrides=list(overrides))
        except OverrideParseException as error:
            raise ParbenchError(f"the override '{error.override}' cannot be parsed: write key=value") from error
        except (
            HydraException,
            OmegaConfBaseException,
            MissingConfigException,
            ConfigCompositionException,
        ) as error:
            raise _explain(error) from error


def _check_options(overrides: Sequence[str]) -> None:
    for override in overrides:
        group, _, option = override.partition("=")
        folder = conf_folder() / group
        outside = any(other.startswith("hydra.searchpath") for other in overrides)
        plain = re.fullmatch(r"[\w.-]+", option)
        if group.isidentifier() and folder.is_dir() and plain and option not in names(group) and not outside:
            raise unknown(group, option, names(group))


def _explain(error: Exception) -> ParbenchError:
    text = str(error)
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if not found:
        return ParbenchError(f"the configuration cannot be composed: {text.splitlines()[0]}")
    key = found.group(1)
    with_defaults = OmegaConf.to_container(compose("config"), resolve=False)
    parent, _, last = key.rpartition(".")
    known: Any = with_defaults
    for part in parent.split(".") if parent else []:
        known = known.get(part, {}) if isinstance(known, dict) else {}
    if not isinstance(known, dict) or not known:
        known, last = with_defaults, key
    options = sorted(str(name) for name in known)
    return unknown(f"configuration key{f' in {parent}' if parent else ''}", last, options)


def build_reducer(method: DictConfig, budget: int | float | None = None) -> Any:
    """The reducer of a method's configuration, with another budget if one is given.

    Raises:
        ParbenchError: A field's value is impossible, or the class cannot be had.
    """
    from hydra.utils import instantiate

    settings = dict(OmegaConf.to_container(method, resolve=True))  # type: ignore[arg-type]
    if budget is not None:
        settings["budget"] = budget
    try:
        return instantiate(settings)
    except InstantiationException as error:
        if isinstance(error.__cause__, ParbenchError):
            raise error.__cause__ from None
        raise ParbenchError(f"method {settings.get('name')} cannot be built: {str(error).splitlines()[0]}") from error

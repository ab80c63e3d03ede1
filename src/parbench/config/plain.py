"""Reads a single option of ``conf/`` without Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from parbench.config.composed import check_method, settings_of
from parbench.config.groups import names, option_file
from parbench.config.resolvers import register_resolvers
from parbench.errors import ParbenchError, unknown


def option(group: str, name: str, **beside: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an option's YAML, with interpolated values from other groups filled in.

    Args:
        group: Such as ``method`` or ``model``.
        name: The option.
        beside: Other groups by name, for values such as ``${oc.select:model.relevance_sign,-1}``.

    Raises:
        ParbenchError: The name is unknown, or its file cannot be read.
    """
    if group == "method":
        check_method(name)
    file = option_file(group, name)
    if file is None and group != "method":
        raise unknown(group, name, names(group))
    register_resolvers()
    try:
        whole = OmegaConf.create({**beside, group: settings_of(name) if file is None else OmegaConf.load(file)})
        found = OmegaConf.to_container(whole[group], resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ParbenchError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"{file} holds no fields: write one a line, such as name: {name}")
    return {str(key): value for key, value in found.items()}

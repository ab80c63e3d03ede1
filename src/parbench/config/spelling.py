"""Converts a configuration back to the command line that gives it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from parbench.config.compose import compose_config
from parbench.errors import ParbenchError


def words_of(config: DictConfig, groups: Collection[str], skip: Collection[str] = ()) -> list[str]:
    """Overrides such as ``model=NAME model.path=...``: the selected options, and the values that differ from their files.

    Args:
        config: The complete configuration.
        groups: Such as model, method, dataset.
        skip: Dotted keys to leave out.
    """
    chosen = {group: str(config[group].name) for group in groups}
    plain = [f"{group}={name}" for group, name in chosen.items()]
    try:
        usual = compose_config(plain)
    except ParbenchError:
        # A user's option whose file has another name.
        return plain
    found = []
    for group, word in zip(chosen, plain, strict=True):
        ours, theirs = (OmegaConf.to_container(one[group], resolve=True) for one in (config, usual))
        found += [word, *(one for one in _differing(ours, theirs, group) if one.partition("=")[0] not in skip)]
    return [shlex.quote(one) for one in found]


def _differing(ours: Any, theirs: Any, above: str) -> Iterator[str]:
    for key, value in ours.items():
        before = theirs.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and set(before) >= set(value):
            yield from _differing(value, before, f"{above}.{key}")
        elif value != before:
            yield f"{'' if key in theirs else '+'}{above}.{key}={written(value)}"


def written(value: Any) -> str:
    """A value in Hydra's override syntax."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{written(one)}' for key, one in value.items())}}}"
    text = str(value)
    if isinstance(value, int | float) or re.fullmatch(r"[\w./@+~][\w./:@+~-]*", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

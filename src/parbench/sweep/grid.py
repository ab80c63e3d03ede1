"""Hydra's grammar for several values, such as ``method=par,fastv budget=range(64,193,64)``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig

from parbench.config import compose_config, names
from parbench.errors import ParbenchError


def products(words: Sequence[str]) -> list[list[str]]:
    """Every combination of the overrides' values, the last one varying fastest, as in Hydra's own sweeper.

    Raises:
        ParbenchError: An override cannot be parsed, or has infinitely many values.
    """
    return [list(found) for found in itertools.product(*(list(_values(word)) for word in words))]


def _values(word: str) -> Iterator[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException as error:
        raise ParbenchError(f"the override '{word}' cannot be parsed: write key=value or key=value,value") from error
    if not override.is_sweep_override():
        yield word
        return
    key, value = override.get_key_element(), override.value()
    if not override.is_discrete_sweep():
        raise ParbenchError(f"{word} stands for endlessly many values: name them, or write {key}=range(1,9,2)")
    options = value.filter(names(key)) if isinstance(value, Glob) else override.sweep_string_iterator()
    for option in options:
        yield f"{key}={option}"


def other_method(name: str, words: list[str]) -> DictConfig:
    """Another method's configuration with the same overrides, except those of the first method's fields."""
    kept = [word for word in words if not of_method(word)]
    found: DictConfig = compose_config([*kept, f"method={name}"]).method
    return found


def of_method(word: str) -> bool:
    """Whether an override sets the method, one of its fields, or the budget."""
    return word.lstrip("+~").startswith(("method=", "method.", "budget="))

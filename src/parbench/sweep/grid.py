"""Hydra's grammar for several values, such as ``method=par,fastv budget=range(64,193,64)``, and other methods in the same
setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig

from parbench.config import compose_config, names
from parbench.errors import ParbenchError


def products(words: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that overrides have, the last one varying fastest, as Hydra's own sweeper orders them.

    Raises:
        ParbenchError: An override cannot be parsed, or stands for endlessly many values.
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
    """Another method's configuration in the same surroundings; overrides of the first one's fields do not concern it."""
    kept = [word for word in words if not of_method(word)]
    found: DictConfig = compose_config([*kept, f"method={name}"]).method
    return found


def of_method(word: str) -> bool:
    """Whether an override is about the method or its budget."""
    return word.lstrip("+~").startswith(("method=", "method.", "budget="))

"""Composes the Hydra configuration, with clear errors for invalid overrides."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from parbench.config.building import reducer_of
from parbench.config.composed import check_method, is_composed, settings_of
from parbench.config.groups import conf_folder, names, outside_folders
from parbench.config.resolvers import register_resolvers
from parbench.config.values import check_values
from parbench.errors import ParbenchError, unknown

if TYPE_CHECKING:
    from parbench.reducers import Reducer


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialise Hydra with parbench's configurations, and restore the caller's Hydra on exit."""
    hydra = GlobalHydra.instance()
    before = hydra.hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The complete configuration for a list of Hydra overrides.

    Raises:
        ParbenchError: An override names an unknown group, option or key, or cannot be parsed.
    """
    from parbench.lmms_tasks.by_path import by_path

    register_resolvers()
    overrides = by_path(overrides)
    _check_options(overrides)
    overrides = _with_searchpath(overrides)
    _store_composed(overrides)
    with _own_hydra():
        try:
            config = _composed(overrides)
            OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            check_values(config)
            return _without_style(config)
        except OverrideParseException as error:
            raise ParbenchError(f"the override '{error.override}' cannot be parsed: write key=value") from error
        except (
            HydraException,
            OmegaConfBaseException,
            MissingConfigException,
            ConfigCompositionException,
        ) as error:
            raise _explain(error, overrides) from error
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            said = " ".join(str(error).split())
            raise ParbenchError(f"a YAML of the configuration cannot be read ({said}): correct it") from error


def _store_composed(overrides: Sequence[str]) -> None:
    """Tell Hydra about the composed methods among the overrides, which have no file."""
    for word in overrides:
        key, _, name = word.partition("=")
        if key == "method" and is_composed(name):
            ConfigStore.instance().store(group="method", name=name, node=OmegaConf.create(settings_of(name)))


def _composed(overrides: Sequence[str]) -> DictConfig:
    try:
        return compose("config", overrides=list(overrides))
    except (AttributeError, TypeError, IndexError, AssertionError) as error:
        # An internal error of Hydra for unexpected words, such as method={a:1}.
        said = " ".join(str(error).split()) or type(error).__name__
        raise ParbenchError(f"an override cannot be understood ({said}): write key=value, such as method=par") from error


def _with_searchpath(overrides: Sequence[str]) -> list[str]:
    """Overrides with the search path of external methods and of lmms-eval tasks that are named as data sets.

    Raises:
        ParbenchError: A data set is neither parbench's nor an lmms-eval task that parbench can run.
    """
    own = [word for word in overrides if word.startswith("hydra.searchpath")]
    given = [path for word in own for path in re.findall(r"[^][,=]+://[^][,]+", word)]
    _check_folders(given, own)
    paths = given or [f"file://{folder}" for folder in outside_folders()]
    for word in overrides:
        group, _, option = word.partition("=")
        if group != "dataset" or not re.fullmatch(r"[\w.+-]+", option) or option in names("dataset"):
            continue
        if any((Path(path.removeprefix("file://")) / "dataset" / f"{option}.yaml").is_file() for path in given):
            continue
        from parbench.lmms_tasks.by_name import search_folder

        found = search_folder(option, names("dataset"))
        paths.append(f"file://{found}")
    if not paths:
        return list(overrides)
    return [*(word for word in overrides if word not in own), f"hydra.searchpath=[{','.join(paths)}]"]


def _check_folders(given: Sequence[str], words: Sequence[str]) -> None:
    """Refuse missing configuration folders, which Hydra would ignore."""
    if words and not given:
        raise ParbenchError(f"{words[0]} names no folder: write hydra.searchpath=[file:///path/to/folder]")
    for path in [*(Path(one.removeprefix("file://")) for one in given if one.startswith("file://")), *outside_folders()]:
        if not path.is_dir():
            where = words[0] if words else "PARBENCH_SEARCHPATH"
            raise ParbenchError(f"{where} names {path}, which is not a folder: name the one that holds method/NAME.yaml")


def _without_style(config: DictConfig) -> DictConfig:
    """Remove a method's plot style, which is not part of a run."""
    with open_dict(config):
        config.method.pop("style", None)
    return config


def _check_options(overrides: Sequence[str]) -> None:
    for override in overrides:
        group, _, option = override.partition("=")
        folder = conf_folder() / group
        outside = any(other.startswith("hydra.searchpath") for other in overrides)
        plain = re.fullmatch(r"[\w.-]+", option)
        # Other data sets are lmms-eval tasks.
        if group == "dataset":
            continue
        if group == "method" and re.fullmatch(r"[\w.+-]+", option) and not outside:
            check_method(option)
        elif group.isidentifier() and folder.is_dir() and plain and option not in names(group) and not outside:
            raise unknown(group, option, names(group))


def _explain(error: Exception, overrides: Sequence[str]) -> ParbenchError:
    text = str(error)
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return ParbenchError(f"{several.group(1)} gives several values: parbench eval -m takes all of them, [a,b] is one list")
    if not found:
        return ParbenchError(f"the configuration cannot be composed: {text.splitlines()[0]}")
    key = found.group(1)
    # With the selected groups: the available fields depend on the method and tracker.
    groups = [folder.name for folder in conf_folder().iterdir() if folder.is_dir()]
    if key in groups:
        return ParbenchError(f"{key} takes a name: write {key}=NAME, one of {', '.join(names(key))}")
    chosen = [word for word in overrides if word.partition("=")[0] in (*groups, "hydra.searchpath")]
    with_defaults = OmegaConf.to_container(compose("config", overrides=chosen), resolve=False)
    parent, _, last = key.rpartition(".")
    known: Any = with_defaults
    for part in parent.split(".") if parent else []:
        known = known.get(part, {}) if isinstance(known, dict) else {}
    if not isinstance(known, dict) or not known:
        known, last = with_defaults, key
    options = sorted(str(name) for name in known)
    return unknown(f"configuration key{f' in {parent}' if parent else ''}", last, options)


def build_reducer(method: DictConfig, budget: int | float | str | None = None) -> Reducer:
    """The reducer of a method's configuration; ``budget`` overrides the configured one if given.

    Raises:
        ParbenchError: A field's value is invalid, or the class cannot be imported.
    """
    settings: dict[str, Any] = dict(OmegaConf.to_container(method, resolve=True))  # type: ignore[arg-type]
    if budget is not None:
        settings["budget"] = budget
    return reducer_of(settings)

"""Hydra configuration: composing it, and clear words for what is wrong with an override."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from parbench.config.fields import check_fields
from parbench.config.groups import conf_folder, names, outside_folders
from parbench.config.resolvers import register_resolvers
from parbench.config.shard import parse_shard
from parbench.config.tracking import check_tracking
from parbench.errors import ParbenchError, unknown
from parbench.models.names import check_device_name, check_dtype_name
from parbench.reducers.budget import check_budget

if TYPE_CHECKING:
    from parbench.reducers import Reducer

_KEYS = (
    "model",
    "method",
    "dataset",
    "engine",
    "tracking",
    "launcher",
    "budget",
    "limit",
    "shard",
    "calibration",
    "controls",
    "results_dir",
    "seed",
    "submission",
)


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """A Hydra over parbench's configurations; afterwards the one of whoever uses parbench is there again."""
    hydra = GlobalHydra.instance()
    before = hydra.hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The whole configuration for a list of Hydra overrides.

    Raises:
        ParbenchError: An override names an unknown group, option or key, or cannot be parsed.
    """
    from parbench.lmms_tasks.by_path import by_path

    register_resolvers()
    overrides = by_path(overrides)
    _check_options(overrides)
    overrides = _with_searchpath(overrides)
    with _own_hydra():
        try:
            config = compose("config", overrides=list(overrides))
            OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            _check_values(config)
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


def _with_searchpath(overrides: Sequence[str]) -> list[str]:
    """Overrides with the folders that hold methods from outside and lmms-eval's tasks that are named as data sets.

    Raises:
        ParbenchError: A data set is neither parbench's nor a task of lmms-eval that parbench runs.
    """
    own = [word for word in overrides if word.startswith("hydra.searchpath")]
    given = [path for word in own for path in re.findall(r"[^][,=]+://[^][,]+", word)]
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


def _without_style(config: DictConfig) -> DictConfig:
    """How pictures draw a method is no part of a run."""
    with open_dict(config):
        config.method.pop("style", None)
    return config


def _check_values(config: DictConfig) -> None:
    missing = [key for key in _KEYS if key not in config]
    if missing:
        raise ParbenchError(f"the configuration lacks {', '.join(missing)}: an override removes what every run needs")
    for key, value in (("limit", config.limit), *config.engine.items()):
        also = {"limit": (None, "null for all questions"), "batch_size": ("auto", "auto")}.get(str(key))
        if also and value != also[0] and not _whole(value):
            where = key if key == "limit" else f"engine.{key}"
            raise ParbenchError(f"{where}={value} is no number from 1 on, nor {also[1]}")
    for key, what in (("cache_mb", "megabytes"), ("workers", "threads")):
        value = config.engine.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ParbenchError(f"engine.{key}={value} is no number of {what} from 0 on")
    check_budget(config.budget)
    check_device_name(config.model.get("device", "auto"))
    check_dtype_name(config.model.get("dtype", "float32"))
    if not isinstance(config.seed, int) or isinstance(config.seed, bool) or not 0 <= config.seed < 2**32:
        raise ParbenchError(f"seed={config.seed} is not possible: use a whole number from 0 to {2**32 - 1}")
    if not isinstance(config.submission, bool):
        raise ParbenchError(f"submission={config.submission} is neither true nor false")
    if not OmegaConf.is_dict(config.calibration):
        raise ParbenchError(f"calibration={config.calibration} has no fields: write calibration.questions=400")
    if not _whole(config.calibration.get("questions")):
        raise ParbenchError(f"calibration.questions={config.calibration.get('questions')} is no number from 1 on")
    parse_shard(config.shard)
    check_tracking(OmegaConf.to_container(config.tracking, resolve=True))  # type: ignore[arg-type]
    if not OmegaConf.is_list(config.controls):
        raise ParbenchError(f"controls={config.controls} is no list: write controls=[random,uniform] or controls=[]")
    for name in config.controls:
        if name not in names("method"):
            raise unknown("method in controls", str(name), names("method"))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_options(overrides: Sequence[str]) -> None:
    for override in overrides:
        group, _, option = override.partition("=")
        folder = conf_folder() / group
        outside = any(other.startswith("hydra.searchpath") for other in overrides)
        plain = re.fullmatch(r"[\w.-]+", option)
        # Other data sets are lmms-eval's tasks.
        if group == "dataset":
            continue
        if group.isidentifier() and folder.is_dir() and plain and option not in names(group) and not outside:
            raise unknown(group, option, names(group))


def _explain(error: Exception, overrides: Sequence[str]) -> ParbenchError:
    text = str(error)
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return ParbenchError(f"{several.group(1)} gives several values: parbench eval -m takes all of them, [a,b] is one list")
    if not found:
        return ParbenchError(f"the configuration cannot be composed: {text.splitlines()[0]}")
    key = found.group(1)
    # With the groups that were chosen: another method or tracker has other fields.
    groups = [folder.name for folder in conf_folder().iterdir() if folder.is_dir()]
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


def build_reducer(method: DictConfig, budget: int | float | None = None) -> Reducer:
    """The reducer of a method's configuration, with another budget if one is given.

    Raises:
        ParbenchError: A field's value is impossible, or the class cannot be had.
    """
    from hydra.utils import get_class, instantiate

    settings = dict(OmegaConf.to_container(method, resolve=True))  # type: ignore[arg-type]
    if budget is not None:
        settings["budget"] = budget
    try:
        check_fields(get_class(settings["_target_"]), settings)
        # Lists as lists, so that a method and its identity see plain values.
        return instantiate(settings, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ParbenchError):
            raise error.__cause__ from None
        raise ParbenchError(f"method {settings.get('name')} cannot be built: {str(error).splitlines()[0]}") from error

"""Validates a composed configuration before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from parbench.config.composed import check_method
from parbench.config.groups import names
from parbench.config.shard import parse_shard
from parbench.config.tracking import check_tracking
from parbench.errors import ParbenchError, unknown
from parbench.models.names import check_device_name, check_dtype_name
from parbench.models.processors import pixel_limits
from parbench.reducers.budget import check_budget

_GROUPS = ("model", "method", "dataset", "engine", "tracking", "launcher")
_KEYS = (*_GROUPS, "budget", "limit", "shard", "calibration", "controls", "results_dir", "seed", "submission")
# Of a data set.
_TEXTS = ("split", "skill", "config", "revision", "path", "images", "task", "image_key")
# For which question of a conversation tokens are chosen.
_TURNS = ("first", "each", "union")
# Of an engine.
_COUNTS = {"cache_mb": "megabytes", "workers": "threads"}


def check_values(config: DictConfig) -> None:
    """Validate a configuration.

    Args:
        config: The complete configuration; a folder whose name is a number is converted to text in it.

    Raises:
        ParbenchError: A key is missing, or its value is invalid.
    """
    missing = [key for key in _KEYS if key not in config]
    if missing:
        raise ParbenchError(f"the configuration lacks {', '.join(missing)}: an override removes what every run needs")
    for group in _GROUPS:
        _check_group(group, config[group])
    _check_numbers(config)
    _check_engine(config.engine)
    _check_dataset(config.dataset)
    _check_variants(config.get("variants"))
    _check_model(config.model)
    _check_controls(config.controls)
    config.results_dir = _folder("results_dir", config.results_dir)
    parse_shard(config.shard)
    check_tracking(OmegaConf.to_container(config.tracking, resolve=True))  # type: ignore[arg-type]


def _check_group(group: str, value: Any) -> None:
    if not OmegaConf.is_dict(value):
        raise ParbenchError(f"{group}={value} is none of {', '.join(names(group))}: write {group}=NAME")
    if not isinstance(value.get("name"), str) and group != "launcher":
        raise ParbenchError(f"the YAML that is chosen as {group} has no name, by which tables call it: add name: NAME to it")


def _check_numbers(config: DictConfig) -> None:
    if config.limit is not None and not _whole(config.limit):
        raise ParbenchError(f"limit={config.limit} is not a whole number of at least 1, nor null for all questions")
    check_budget(config.budget)
    check_budget(config.method.get("budget"), "method.budget")
    if not isinstance(config.seed, int) or isinstance(config.seed, bool) or not 0 <= config.seed < 2**32:
        raise ParbenchError(f"seed={config.seed} is not possible: use a whole number from 0 to {2**32 - 1}")
    if config.get("turns") not in (None, *_TURNS):
        raise unknown("turns", str(config.turns), _TURNS)
    if config.get("turns") and not config.dataset.get("turn"):
        raise ParbenchError(
            f"turns={config.turns} means nothing for {config.dataset.name}, whose questions are asked one by one: leave it out, or "
            "write dataset=scenes_turns"
        )
    if not isinstance(config.submission, bool):
        raise ParbenchError(f"submission={config.submission} is neither true nor false")
    if not OmegaConf.is_dict(config.calibration):
        raise ParbenchError(f"calibration={config.calibration} has no fields: write calibration.questions=400")
    if not _whole(config.calibration.get("questions")):
        raise ParbenchError(f"calibration.questions={config.calibration.get('questions')} is not a whole number of at least 1")


def _check_engine(engine: DictConfig) -> None:
    size = engine.get("batch_size")
    if size != "auto" and not _whole(size):
        raise ParbenchError(f"engine.batch_size={size} is not a whole number of at least 1, nor auto")
    for key, what in _COUNTS.items():
        value = engine.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ParbenchError(f"engine.{key}={value} is not a number of {what} from 0 on")
    if not isinstance(engine.get("share"), bool):
        raise ParbenchError(f"engine.share={engine.get('share')} is neither true nor false")
    if engine.get("cache_dir") is not None:
        engine.cache_dir = _folder("engine.cache_dir", engine.cache_dir)


def _check_model(model: DictConfig) -> None:
    check_device_name(model.get("device", "auto"))
    check_dtype_name(model.get("dtype", "float32"))
    if not isinstance(model.get("path"), str):
        raise ParbenchError(
            f"model.path={model.get('path')} is not a folder and no name of the hub: write model.path=/path/to/folder"
        )

    if not isinstance(model.get("attention", "sdpa"), str):
        raise ParbenchError(f"model.attention={model.attention} is not an implementation of attention: write model.attention=sdpa")
    pixel_limits(model)
    geometry = model.get("geometry")
    if geometry is not None and not (OmegaConf.is_dict(geometry) and {"vision", "text"} <= set(geometry)):
        raise ParbenchError(f"model.geometry={geometry} has no sizes: write vision and text, as in conf/model/llava-1.5-7b.yaml")


def _check_dataset(dataset: DictConfig) -> None:
    for key in _TEXTS:
        value = dataset.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise ParbenchError(f"dataset.{key}={value} is not text: write dataset.{key}=NAME, or null for none")
        if key in dataset and value is not None:
            # YAML reads a split named 2024 as a number.
            dataset[key] = str(value)
    columns = dataset.get("columns", [])
    if not OmegaConf.is_list(columns) or not all(isinstance(one, str) for one in columns):
        raise ParbenchError(f"dataset.columns={columns} is not a list of names: write dataset.columns=[image,question]")


def _check_variants(variants: Any) -> None:
    right = variants is None or (OmegaConf.is_dict(variants) and all(OmegaConf.is_list(one) for one in variants.values()))
    if not right:
        raise ParbenchError(f"variants={variants} has no lists of overrides: write variants={{NAME: [method.FIELD=VALUE]}}")


def _check_controls(controls: Any) -> None:
    if not OmegaConf.is_list(controls):
        raise ParbenchError(f"controls={controls} is not a list: write controls=[random,uniform] or controls=[]")
    for name in controls:
        check_method(str(name), "method in controls")


def _folder(key: str, value: Any) -> str:
    """A folder's name as text; YAML reads a name such as 2026 as a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise ParbenchError(f"{key}={value} is not a folder: write {key}=results/runs")
    path = Path(str(value))
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ParbenchError(f"{key}={value} cannot be a folder: {place} is a file; choose another name")
    return str(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

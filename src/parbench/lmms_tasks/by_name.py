"""lmms-eval's tasks as data sets of the configuration: ``dataset=<task>``, without a YAML of parbench's own."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from parbench.cache import cache_root
from parbench.errors import ParbenchError
from parbench.files import write_whole
from parbench.lmms_tasks.check import measured, why_not
from parbench.lmms_tasks.code import tasks_folder
from parbench.lmms_tasks.index import all_names, entry, members, read_yaml

# Where data come from that are no repository of the hub.
BUILDERS = ("json", "csv", "parquet", "arrow", "text", "imagefolder")


def settings_of(name: str, others: Collection[str] = ()) -> dict[str, Any]:
    """A task's data set as a ``conf/dataset`` mapping.

    Args:
        name: The task.
        others: Names of data sets that are no tasks of lmms-eval, for the error of an unknown one.

    Raises:
        ParbenchError: parbench does not run it.
    """
    found = entry(name)
    if found is None:
        raise unknown_dataset(name, others)
    if found["kind"] in ("group", "tag"):
        raise ParbenchError(
            f"{name} is a {found['kind']} of lmms-eval's tasks, which parbench eval and parbench sweep run one by one"
        )
    path = tasks_folder() / found["yaml"]
    config = read_yaml(path)
    if reason := why_not(config, path):
        raise ParbenchError(f"dataset={name} is refused: lmms-eval's task {name} {reason}")
    loading = config.get("dataset_kwargs") or {}
    return {
        "name": name,
        "task": name,
        "yaml": found["yaml"],
        "by_name": True,
        "hub": config["dataset_path"],
        "config": config.get("dataset_name"),
        "data_files": loading.get("data_files"),
        "revision": loading.get("revision"),
        "path": None,
        "split": config.get("test_split") or config.get("validation_split"),
        "skill": None,
        "images": "real",
        "image_key": config.get("cluster_key"),
        "columns": [],
        "metric": _ordered([metric["metric"] for metric in measured(config, path)]),
    }


def _ordered(metrics: list[str]) -> list[str]:
    """Metrics, those first that say something of every single sample.

    Of captions that is ROUGE-L, whose mean over samples the task's own is; of a task with a metric for each category the one over
    all.
    """
    return sorted(metrics, key=lambda name: (not name.endswith("_ROUGE_L"), name.lower() not in ("average", "overall")))


def search_folder(name: str, others: Collection[str] = ()) -> Path:
    """A folder of configurations for Hydra that holds ``dataset/<name>.yaml``, written when first asked for.

    Args:
        name: The task.
        others: See ``settings_of``.

    Raises:
        ParbenchError: parbench does not run the task, or the cache cannot be written.
    """
    text = yaml.safe_dump(settings_of(name, others), sort_keys=False)
    folder = cache_root() / "tasks" / hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()[:16]
    file = folder / "dataset" / f"{name}.yaml"
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, text, shared=True)
        except OSError as error:
            raise ParbenchError(
                f"the configuration of lmms-eval's task {name} cannot be written to {file.parent} ({error.strerror}): name another "
                "folder in PARBENCH_CACHE"
            ) from error
    return folder


def about(settings: Mapping[str, Any]) -> str:
    """What parbench takes from a task, and what it does not say."""
    metric = settings["metric"] if isinstance(settings["metric"], list) else [settings["metric"]]
    others = f", then {', '.join(metric[1:4])}{' ...' if len(metric) > 4 else ''}" if len(metric) > 1 else ""
    key = settings["image_key"]
    images = (
        f"column {key} says which rows share an image" if key else "it names no column of images: they are told apart by content"
    )
    return (
        f"dataset={settings['name']} is lmms-eval's task: prompt, generation, split {settings['split']} and scoring are its own; a "
        f"sample's score is {metric[0] if metric else 'its first metric'}{others} (dataset.metric= chooses); {images}"
    )


def parts_of(name: str, own: Collection[str]) -> tuple[list[str], list[str]] | None:
    """The tasks of a group or tag that parbench runs, and for the others why not; None for what is no group.

    Args:
        name: A name.
        own: Names of parbench's own data sets, which go before.

    Raises:
        ParbenchError: parbench runs none of its tasks.
    """
    found = None if name in own else entry(name)
    if found is None or found["kind"] not in ("group", "tag"):
        return None
    run, left_out = [], []
    for task in members(name):
        try:
            settings_of(task)
        except ParbenchError as error:
            left_out.append(str(error))
        else:
            run.append(task)
    if not run:
        why = left_out[0] if left_out else "it is empty"
        raise ParbenchError(f"parbench runs no task of lmms-eval's {found['kind']} {name}: {why}")
    return run, left_out


def unknown_dataset(name: str, others: Collection[str]) -> ParbenchError:
    """The error for a name that neither parbench, whose data sets are ``others``, nor lmms-eval has."""
    known = all_names()
    near = difflib.get_close_matches(name, [*others, *known], n=4, cutoff=0.6)
    if near:
        return ParbenchError(f"unknown dataset '{name}': did you mean {' or '.join(dict.fromkeys(near))}?")
    return ParbenchError(
        f"unknown dataset '{name}': known are {', '.join(others)}, and lmms-eval's {len(known)} tasks, groups and tags by name"
    )

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
from parbench.lmms_tasks.check import measured, shows_videos, why_not
from parbench.lmms_tasks.code import tasks_folder
from parbench.lmms_tasks.index import all_names, entry, members, read_yaml

# Frames of a video, unless the user says otherwise.
FRAMES = 8
# Loaders of data that is not a repository of the hub.
BUILDERS = ("json", "csv", "parquet", "arrow", "text", "imagefolder")


def settings_of(name: str, others: Collection[str] = ()) -> dict[str, Any]:
    """A task's data set as a ``conf/dataset`` mapping.

    Args:
        name: The task.
        others: Names of data sets other than lmms-eval's tasks, for the error of an unknown name.

    Raises:
        ParbenchError: parbench does not support it.
    """
    found = entry(name)
    if found is None:
        raise unknown_dataset(name, others)
    if found["kind"] in ("group", "tag"):
        raise ParbenchError(
            f"{name} is a {found['kind']} of lmms-eval's tasks: use it with parbench eval or parbench sweep, which run its "
            "tasks one by one"
        )
    path = tasks_folder() / found["yaml"]
    config = read_yaml(path)
    if reason := why_not(config, path):
        raise ParbenchError(f"dataset={name} is refused: lmms-eval's task {name} {reason}")
    loading = config.get("dataset_kwargs") or {}
    videos = {"video": True, "frames": FRAMES, "fps": None, "videos": None} if shows_videos(config, path) else {}
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
        **videos,
    }


def _ordered(metrics: list[str]) -> list[str]:
    """Metrics, with those first that score single samples.

    For captions this is ROUGE-L, whose mean over samples is the task's value; for a task with a metric per category, the overall
    one.
    """
    return sorted(metrics, key=lambda name: (not name.endswith("_ROUGE_L"), name.lower() not in ("average", "overall")))


def search_folder(name: str, others: Collection[str] = ()) -> Path:
    """A folder of configurations for Hydra with ``dataset/<name>.yaml``, written on first use.

    Args:
        name: The task.
        others: See ``settings_of``.

    Raises:
        ParbenchError: parbench does not support the task, or the cache cannot be written.
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
                f"the configuration of lmms-eval's task {name} cannot be written to {file.parent} ({error.strerror}): set "
                "PARBENCH_CACHE to another folder"
            ) from error
    return folder


def about(settings: Mapping[str, Any]) -> str:
    """A message about the settings taken from a task, and those that it leaves open."""
    metric = settings["metric"] if isinstance(settings["metric"], list) else [settings["metric"]]
    others = f", then {', '.join(metric[1:4])}{' ...' if len(metric) > 4 else ''}" if len(metric) > 1 else ""
    key = settings["image_key"]
    images = (
        f"rows with the same {key} share an image" if key else "it names no column of images, so they are identified by content"
    )
    return (
        f"dataset={settings['name']} is lmms-eval's task: prompt, generation, split {settings['split']} and scoring are its own; a "
        f"sample's score is {metric[0] if metric else 'its first metric'}{others} (dataset.metric= chooses); {images}"
    )


def parts_of(name: str, own: Collection[str]) -> tuple[list[str], list[str]] | None:
    """The supported tasks of a group or tag, and the reasons for the others; None if the name is not a group.

    Args:
        name: A name.
        own: Names of parbench's own data sets, which take precedence.

    Raises:
        ParbenchError: parbench supports none of its tasks.
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
        raise ParbenchError(f"parbench supports no task of lmms-eval's {found['kind']} {name}: {why}")
    return run, left_out


def unknown_dataset(name: str, others: Collection[str]) -> ParbenchError:
    """The error for a name that is neither one of parbench's data sets (``others``) nor known to lmms-eval."""
    known = all_names()
    near = difflib.get_close_matches(name, [*others, *known], n=4, cutoff=0.6)
    if near:
        return ParbenchError(f"unknown dataset '{name}': did you mean {' or '.join(dict.fromkeys(near))}?")
    return ParbenchError(
        f"unknown dataset '{name}': known are {', '.join(others)}, and lmms-eval's {len(known)} tasks, groups and tags by name"
    )

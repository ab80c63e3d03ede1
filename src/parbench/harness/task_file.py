"""The YAML file of a data set's lmms-eval task, and the task built from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from parbench.errors import ParbenchError
from parbench.harness.scoring import silent
from parbench.harness.silence import quiet
from parbench.harness.video_folder import VideoFolder
from parbench.lmms_tasks.check import measured
from parbench.lmms_tasks.code import tasks_folder
from parbench.lmms_tasks.index import read_yaml

_OWN = Path(__file__).parents[1] / "tasks"


class TaskFile:
    """The task of a data set as its YAML defines it; lmms-eval and the task's code are imported when first needed.

    Args:
        settings: The ``conf/dataset`` mapping.

    Attributes:
        name: The task's name in lmms-eval.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.name: str = settings["task"]

    @property
    def path(self) -> Path:
        """The YAML file: parbench's, lmms-eval's, or the user's own."""
        if self.settings["yaml"] is None:
            return next(_OWN.rglob(f"{self.name}.yaml"))
        if self.settings.get("source") == "task":
            return Path(self.settings["yaml"])
        found: Path = tasks_folder() / self.settings["yaml"]
        return found

    @property
    def content(self) -> list[bytes]:
        """What defines prompt, generation arguments and scoring: the YAML and the files next to it.

        ``numerics`` stands for parbench's own code. The layout of its YAML does not matter.
        """
        if self.path.is_relative_to(_OWN):
            return _parsed(self.path)
        beside = sorted(self.path.parent.iterdir())
        return [path.read_bytes() for path in beside if path.suffix in ("", ".py", ".yaml") and path.is_file()]

    @cached_property
    def videos(self) -> VideoFolder | None:
        """Where the task finds its videos; None if it shows none, or if they are the user's own.

        Raises:
            ParbenchError: See :class:`VideoFolder`.
        """
        settings = self.settings
        if not settings.get("video") or settings["hub"] is None or settings.get("source"):
            return None
        return VideoFolder(settings, (read_yaml(self.path).get("dataset_kwargs") or {}).get("cache_dir"))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The task's configuration, with its functions imported.

        Raises:
            ParbenchError: Its code cannot be imported.
        """
        with quiet(), silent():
            from lmms_eval.utils import load_yaml_config

            try:
                with self.videos.found() if self.videos else nullcontext():
                    found: dict[str, Any] = load_yaml_config(str(self.path), mode="full")
                return found
            except Exception as error:
                raise ParbenchError(
                    f"the code of lmms-eval's task {self.name} cannot be imported ({type(error).__name__}: {error})"
                ) from error

    def processed(self, rows: Any) -> Any:
        """The rows that the task's own ``process_docs`` returns.

        Raises:
            ParbenchError: It fails.
        """
        process = self.config.get("process_docs")
        if process is None:
            return rows
        try:
            with silent():
                return process(rows)
        except Exception as error:
            raise ParbenchError(
                f"process_docs of lmms-eval's task {self.name} fails on these data ({type(error).__name__}: {error}): are they in "
                f"the schema of {self.settings['hub']}?"
            ) from error

    def built(self, rows: Any) -> Any:
        """The lmms-eval task over some rows."""
        settings = self.settings
        with quiet():
            from parbench.harness.lmms_task import LoadedTask

            config = {**self.config, "task": self.name, "test_split": settings["split"]}
            if config.get("metric_list"):
                # A submission file for a test server is not a metric.
                measures = [one["metric"] for one in measured(read_yaml(self.path), self.path)]
                kept = ["submission"] if settings.get("submission") else measures
                config["metric_list"] = [metric for metric in config["metric_list"] if metric["metric"] in kept]
            if settings.get("ocr"):
                config["lmms_eval_specific_kwargs"]["default"]["ocr"] = True
            return LoadedTask(config, rows)


def _parsed(path: Path) -> list[bytes]:
    """The content of a task's YAML and of the files it includes, independent of layout."""
    node = yaml.compose(path.read_text(encoding="utf-8"))
    assert node is not None
    included = [value.value for key, value in node.value if key.value == "include"]
    content = json.dumps(_plain(node)).encode()
    return [content, *(part for name in included for part in _parsed(path.parent / name))]


def _plain(node: yaml.Node) -> list[Any]:
    """A node of YAML as a list of its tag and its content."""
    if isinstance(node, yaml.MappingNode):
        return [node.tag, [[_plain(key), _plain(value)] for key, value in node.value]]
    return [node.tag, [_plain(one) for one in node.value] if isinstance(node, yaml.SequenceNode) else node.value]

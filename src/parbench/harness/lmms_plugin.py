"""How lmms-eval finds the model class and the tasks: ``lmms-eval --model parbench_llava --tasks scenes``."""

from __future__ import annotations

import functools
import sys
from importlib import resources
from typing import Any

from lmms_eval.models.registry_v2 import ModelManifest

NAME = "parbench_llava"


def manifest() -> ModelManifest:
    """The model class; if the command line names it, parbench's tasks are registered with lmms-eval too.

    lmms-eval has no entry point for tasks, and reads this one before its command line.
    """
    if any(NAME in word for word in sys.argv[1:]):
        _add_tasks()
    return ModelManifest(model_id=NAME, simple_class_path="parbench.harness.lmms_model.ParbenchLlava")


def _add_tasks() -> None:
    """Make every task manager of this process search parbench's task folder, as if ``--include_path`` named it."""
    from lmms_eval.tasks import TaskManager

    original = TaskManager.initialize_tasks

    @functools.wraps(original)
    def with_ours(self: Any, include_path: Any = None, include_defaults: bool = True) -> Any:
        given = [include_path] if isinstance(include_path, str) else list(include_path or ())
        return original(self, [*given, str(resources.files("parbench").joinpath("tasks"))], include_defaults)

    TaskManager.initialize_tasks = with_ours

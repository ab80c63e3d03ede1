"""What the tests of one process share: the shipped model, scenes and configuration, and proof that no test changed the model."""

from __future__ import annotations

import copy
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from parbench.config.groups import conf_folder, outside_folders
from parbench.harness.datasets import PreparedDataset
from parbench.models.adapter import ModelAdapter


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


@contextmanager
def one_model(settings: Mapping[str, Any]) -> Iterator[dict[str, ModelAdapter]]:
    """``ModelAdapter.load`` of exactly these settings gives one object; any other path, dtype or place is loaded anew."""
    load, wanted, loaded = ModelAdapter.load, _key(settings), {}

    def shared(config: Mapping[str, Any]) -> ModelAdapter:
        if _key(config) != wanted:
            return load(config)
        if wanted not in loaded:
            loaded[wanted] = load(config)
        return loaded[wanted]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelAdapter, "load", shared)
        yield loaded


@contextmanager
def scenes_once() -> Iterator[None]:
    """Each ``scenes`` data set, with its rows and its lmms-eval task, is prepared once for each cache folder."""
    prepared: dict[str, PreparedDataset] = {}

    def shared(cls: type[PreparedDataset], settings: Mapping[str, Any]) -> PreparedDataset:
        if settings["hub"] is not None or settings.get("source"):
            return object.__new__(cls)
        key = f"{os.environ['PARBENCH_CACHE']} {_key(dict(settings))}"
        return prepared.setdefault(key, object.__new__(cls))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedDataset, "__new__", shared)
        yield


@contextmanager
def configuration_once() -> Iterator[None]:
    """Hydra composes the shipped configuration once for each list of overrides, which takes a tenth of a second.

    With folders of a test's own, whose files may change, it always composes.
    """
    module = importlib.import_module("parbench.config.compose")
    compose, known = module.compose, {}

    def shared(name: str, overrides: list[str]) -> Any:
        if outside_folders() or any("searchpath" in word for word in overrides):
            return compose(name, overrides=overrides)
        key = (str(conf_folder()), name, *overrides)
        if key not in known:
            known[key] = compose(name, overrides=overrides)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "compose", shared)
        yield


_KINDS = ("_forward_hooks", "_forward_pre_hooks")


def _ours(hook: Any) -> bool:
    """Hugging Face puts in hooks of its own at a model's first forward, and leaves them there."""
    return not getattr(hook, "__module__", "").startswith(("transformers.", "torch."))


def state(adapter: ModelAdapter) -> tuple[Any, ...]:
    """What a test could leave changed in a model: hooks, configuration, what ends an answer, weights, attributes."""
    model = adapter.model
    hooks = sum(_ours(hook) for one in model.modules() for kind in _KINDS for hook in getattr(one, kind).values())
    replaced = sum("forward" in vars(one) for one in model.modules())
    weights = sum(parameter._version for parameter in model.parameters())
    return hooks, replaced, weights, model.training, repr(model.config), repr(model.generation_config)

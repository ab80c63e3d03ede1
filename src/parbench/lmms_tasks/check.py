"""Why parbench does not run an lmms-eval task, found out before anything is imported or downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parbench.lmms_tasks.code import Reach, file_of, missing_packages, reach, read

# What scoring code imports when another model or a server judges.
_JUDGES = (
    "openai",
    "anthropic",
    "azure",
    "reka",
    "google",
    "dashscope",
    "requests",
    "httpx",
    "aiohttp",
    "lmms_eval.llm_judge",
    "lmms_eval.verifiers",
    "lmms_eval.azure_openai_compat",
)
_MODELS = ("transformers", "bleurt_pytorch", "evaluate", "sentence_transformers", "torchvision")
_NAMED_LIKE = 40
Function = tuple[Path, str]


def why_not(config: Mapping[str, Any], path: Path) -> str | None:
    """The reason for which a task is refused; None for tasks that can be asked and scored here.

    Args:
        config: The task's configuration, functions as ``!function module.name``.
        path: Its YAML.
    """
    kind = config.get("output_type", "generate_until")
    if "class" in config:
        return "is a Python class of its own, not a configuration"
    if kind != "generate_until":
        return f"is scored by {kind}, and parbench by generated answers (generate_until)"
    if not config.get("doc_to_visual"):
        return "shows no image, so that no visual token could be left out"
    for reason in (
        _media(config, path),
        _asks(config),
        _judged(config, path),
        _sent_away(config, path),
        _lacks(config, path),
    ):
        if reason:
            return reason
    return None


def measured(config: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The metrics of a task that give a value; others only write what is sent to a server."""
    return [metric for metric in _metrics(config) if _returns(metric.get("aggregation"), path)]


def _metrics(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [metric for metric in config.get("metric_list") or [] if isinstance(metric, dict)]
    return [metric for metric in found if metric.get("metric") not in (None, "submission")]


def _media(config: Mapping[str, Any], path: Path) -> str | None:
    """Whether it shows something else than images."""
    settings = config.get("dataset_kwargs") or {}
    function = _function(config["doc_to_visual"], path)
    words = set(reach([function]).words()) if function else set()
    short = {word.lower() for word in {*words, str(config["doc_to_visual"])} if len(word) < _NAMED_LIKE}
    for medium, endings in (("video", (".mp4", ".avi", ".mkv")), ("audio", (".wav", ".mp3", ".flac"))):
        if settings.get(medium) or any(medium in word or word.endswith(endings) for word in short):
            return f"shows {medium}, and parbench evaluates images"
    return None


def _asks(config: Mapping[str, Any]) -> str | None:
    """Whether it asks in a way that runs cannot be compared in."""
    settings = config.get("generation_kwargs") or {}
    if shots := config.get("num_fewshot"):
        return f"puts {shots} examples before each question, and parbench asks without examples"
    if (repeats := config.get("repeats") or 1) > 1:
        return f"asks each question {repeats} times, and parbench generates greedily, the same each time"
    if settings.get("do_sample") in (True, "true", "True") or float(settings.get("temperature") or 0) > 0:
        return "asks for sampled answers, and parbench generates greedily, so that runs can be compared"
    if int(settings.get("num_beams") or 1) > 1:
        return "asks for beams, and parbench generates greedily, so that runs can be compared"
    return None


def _scoring(config: Mapping[str, Any], path: Path) -> list[Function]:
    """The functions that score: of answers, of all of them, and filters before."""
    named = [config.get("process_results")]
    named += [metric.get("aggregation") for metric in _metrics(config)]
    named += [one.get("function") for pipeline in config.get("filter_list") or [] for one in pipeline.get("filter") or []]
    return [function for function in (_function(name, path) for name in named) if function]


def _judged(config: Mapping[str, Any], path: Path) -> str | None:
    """Whether a server or a further model scores."""
    # MMBench's static rules share a class with its judge, which they never call.
    functions = [one for one in _scoring(config, path) if not one[1].endswith("_static")]
    found: Reach = reach(functions)
    if judge := next(_begin(found.modules, _JUDGES), None):
        return f"is scored by a judge or a server (its code calls {judge}), and parbench scores locally"
    if model := next(_begin(found.modules, _MODELS), None):
        return f"is scored with a further model or metric that has to be downloaded (its code calls {model})"
    return None


def _begin(modules: set[str], names: tuple[str, ...]) -> Iterator[str]:
    return (module for module in sorted(modules) if any(module == name or module.startswith(f"{name}.") for name in names))


def _sent_away(config: Mapping[str, Any], path: Path) -> str | None:
    """Whether nothing of it can be scored without a test server."""
    if config.get("metric_list") and not measured(config, path):
        return "has answers that only a test server knows: all it does is write a file for submission"
    return None


def _lacks(config: Mapping[str, Any], path: Path) -> str | None:
    files = {function[0] for function in (*_scoring(config, path), *_others(config, path))}
    if absent := missing_packages(files):
        return f"needs packages that are not installed ({', '.join(absent)}): pip install {' '.join(absent)}"
    if any("pycocoevalcap" in module for module in reach(_scoring(config, path)).modules) and shutil.which("java") is None:
        return "needs Java, which cuts its captions into words and is not installed"
    return None


def _others(config: Mapping[str, Any], path: Path) -> list[Function]:
    named = [config.get(key) for key in ("doc_to_visual", "doc_to_text", "doc_to_target", "process_docs")]
    return [function for function in (_function(name, path) for name in named) if function]


def _function(name: Any, path: Path) -> Function | None:
    """The file and name of a ``!function``; None for anything else."""
    if not isinstance(name, str) or not name.startswith("!function "):
        return None
    module, _, function = name.removeprefix("!function ").rpartition(".")
    beside = path.parent / f"{module}.py"
    file = beside if beside.is_file() else file_of(module, path)
    return (file, function) if file else None


def _returns(aggregation: Any, path: Path) -> bool:
    """Whether an aggregation gives back a value."""
    import ast

    function = _function(aggregation, path)
    if function is None:
        return True
    file, name = function
    parts = read(file).parts.get(name, [])
    return not parts or any(isinstance(node, ast.Return) and node.value is not None for part in parts for node in ast.walk(part))

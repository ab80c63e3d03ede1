"""Reasons why parbench does not support an lmms-eval task, determined before anything is imported or downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parbench.lmms_tasks.code import Reach, file_of, missing_packages, reach, read

# Imports of scoring code that uses another model or a server as a judge.
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
    """The reason why a task is refused; None if it is supported.

    Args:
        config: The task's configuration, functions as ``!function module.name``.
        path: Its YAML.
    """
    kind = config.get("output_type", "generate_until")
    if "class" in config:
        return "is a Python class, not a configuration"
    if kind != "generate_until":
        return f"is scored by {kind}, but parbench only supports generated answers (generate_until)"
    if not config.get("doc_to_visual"):
        return "has no image, so there are no visual tokens to reduce"
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
    """The metrics of a task that return a value. Others only write a submission file."""
    return [metric for metric in _metrics(config) if _returns(metric.get("aggregation"), path)]


def _metrics(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [metric for metric in config.get("metric_list") or [] if isinstance(metric, dict)]
    return [metric for metric in found if metric.get("metric") not in (None, "submission")]


def shows_videos(config: Mapping[str, Any], path: Path) -> bool:
    """Whether a task shows videos.

    Args:
        config: The task's configuration, functions as ``!function module.name``.
        path: Its YAML.
    """
    return _shows("video", (".mp4", ".avi", ".mkv"), config, path)


def _shows(medium: str, endings: tuple[str, ...], config: Mapping[str, Any], path: Path) -> bool:
    function = _function(config["doc_to_visual"], path)
    words = set(reach([function]).words()) if function else set()
    short = {word.lower() for word in {*words, str(config["doc_to_visual"])} if len(word) < _NAMED_LIKE}
    settings = config.get("dataset_kwargs") or {}
    return bool(settings.get(medium)) or any(medium in word or word.endswith(endings) for word in short)


def _media(config: Mapping[str, Any], path: Path) -> str | None:
    """The reason if it has media other than images and videos; else None."""
    if _shows("audio", (".wav", ".mp3", ".flac"), config, path):
        return "shows audio, but parbench only supports images and videos"
    return None


def _asks(config: Mapping[str, Any]) -> str | None:
    """The reason if its generation is not comparable between runs; else None."""
    settings = config.get("generation_kwargs") or {}
    if shots := config.get("num_fewshot"):
        return f"puts {shots} examples before each question, but parbench does not support few-shot prompts"
    if (repeats := config.get("repeats") or 1) > 1:
        return f"repeats each question {repeats} times, but parbench generates greedily, with the same answer each time"
    if settings.get("do_sample") in (True, "true", "True") or float(settings.get("temperature") or 0) > 0:
        return "samples answers, but parbench generates greedily, so that runs are comparable"
    if int(settings.get("num_beams") or 1) > 1:
        return "uses beam search, but parbench generates greedily, so that runs are comparable"
    return None


def _scoring(config: Mapping[str, Any], path: Path) -> list[Function]:
    """The scoring functions: of answers, of aggregates, and filters."""
    named = [config.get("process_results")]
    named += [metric.get("aggregation") for metric in _metrics(config)]
    named += [one.get("function") for pipeline in config.get("filter_list") or [] for one in pipeline.get("filter") or []]
    return [function for function in (_function(name, path) for name in named) if function]


def _judged(config: Mapping[str, Any], path: Path) -> str | None:
    """The reason if a server or another model scores it; else None."""
    # MMBench's static rules share a class with its judge, but do not call it.
    functions = [one for one in _scoring(config, path) if not one[1].endswith("_static")]
    found: Reach = reach(functions)
    if judge := next(_begin(found.modules, _JUDGES), None):
        return f"is scored by a judge or a server (its code calls {judge}), but parbench only scores locally"
    if model := next(_begin(found.modules, _MODELS), None):
        return f"is scored with another model or metric that has to be downloaded (its code calls {model})"
    return None


def _begin(modules: set[str], names: tuple[str, ...]) -> Iterator[str]:
    return (module for module in sorted(modules) if any(module == name or module.startswith(f"{name}.") for name in names))


def _sent_away(config: Mapping[str, Any], path: Path) -> str | None:
    """The reason if only a test server can score it; else None."""
    if config.get("metric_list") and not measured(config, path):
        return "has answers that only a test server knows, and only writes a submission file"
    return None


def _lacks(config: Mapping[str, Any], path: Path) -> str | None:
    files = {function[0] for function in (*_scoring(config, path), *_others(config, path))}
    if absent := missing_packages(files):
        return f"needs packages that are not installed ({', '.join(absent)}): pip install {' '.join(absent)}"
    if any("pycocoevalcap" in module for module in reach(_scoring(config, path)).modules) and shutil.which("java") is None:
        return "needs Java to tokenise captions, and Java is not installed"
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
    """Whether an aggregation returns a value."""
    import ast

    function = _function(aggregation, path)
    if function is None:
        return True
    file, name = function
    parts = read(file).parts.get(name, [])
    return not parts or any(isinstance(node, ast.Return) and node.value is not None for part in parts for node in ast.walk(part))

"""``parbench bench``: what methods really save, in time and memory, beside what FLOPs predict."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from parbench import __version__
from parbench.commands.options import as_list, split_options, whole_number, writable
from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError, unknown
from parbench.reducers.budget import check_budget
from parbench.sweep.grid import other_method

if TYPE_CHECKING:
    from parbench.bench.measure import Effort, Measurer
    from parbench.bench.store import BenchFile
    from parbench.models.adapter import LlavaAdapter

_log = logging.getLogger(__name__)

_OPTIONS = {
    "methods": "par,prumerge-plus,fastv",
    "budgets": "64",
    "batch": "1",
    "repeats": "5",
    "warmup": "1",
    "new_tokens": "16",
    "kernel": "",
    "out": "",
}
# What says how accuracy is measured, or is a list here.
_NO_PLACE = ("method=", "method.", "budget=", "limit=", "dataset", "engine", "experiment", "controls", "results_dir=")


def run(words: list[str]) -> None:
    """Measure what is not measured yet, write it down after each method, print the table, draw the picture."""
    if "--engine" in words:
        from parbench.commands.bench_engine import run as run_engine

        return run_engine([word for word in words if word != "--engine"])
    options, rest = split_options(words, _OPTIONS)
    config, methods = _checked(options, rest)
    budgets = as_list("budgets", options["budgets"])
    for budget in budgets:
        check_budget(budget, "budgets")
    batches = [whole_number("batch", str(size)) for size in as_list("batch", options["batch"])]
    cells = [cell for name in methods for cell in _cells(other_method(name, rest), budgets)]
    from parbench.bench.batch import read_batch, scenes_samples
    from parbench.bench.measure import Measurer
    from parbench.bench.report import picture, show
    from parbench.bench.store import BenchFile
    from parbench.models.adapter import LlavaAdapter
    from parbench.models.devices import resolve_device
    from parbench.models.quantization import model_title

    model: dict[str, Any] = OmegaConf.to_container(config.model, resolve=True)  # type: ignore[assignment]
    device = resolve_device(str(model["device"]))
    effort = _effort(options, device)
    out = writable("out", Path(options["out"] or f"results/runs/bench-{model_title(model).replace(' ', '-')}-{device.type}.json"))
    adapter = LlavaAdapter.load(model)
    store = BenchFile(out, _head(model, adapter, effort, words))
    samples = scenes_samples(adapter, max(batches))
    for size in batches:
        batch = read_batch(adapter, samples[:size])
        store.content["batches"][str(size)] = {
            "preprocessing_seconds": round(batch.preprocessing, 4),
            "text_tokens": [len(prompt) - 1 for prompt in batch.prompts],
        }
        measurer = Measurer(adapter, batch, effort)
        for number, (method, budget) in enumerate(cells, 1):
            said = _measure(measurer, store, method, budget)
            _log.info(f"batch {size} [{number}/{len(cells)}] {said}")
    store.write()
    show(store.content)
    picture(store.content, out.with_suffix(".png"))
    print(out)


def _checked(options: dict[str, str], rest: list[str]) -> tuple[DictConfig, list[str]]:
    for word in rest:
        if word.lstrip("+~").startswith(_NO_PLACE):
            raise ParbenchError(
                f"{word} has no place in a benchmark, which times questions of scenes: write methods=[a,b] budgets=[1,2] "
                f"batch=[1,16]"
            )
    methods = [str(name) for name in as_list("methods", options["methods"])]
    methods = names("method") if methods == ["all"] else methods
    for name in methods:
        if name not in names("method"):
            raise unknown("method", name, names("method"))
    config = compose_config(rest)
    for key, value in (
        ("model.device_map", config.model.get("device_map")),
        ("launcher.devices", config.launcher.get("devices")),
    ):
        if value is not None:
            raise ParbenchError(f"{key}={value} has no place in a benchmark, whose times and memory are those of one device")
    # Beside itself it shows how much of a ratio is noise.
    return config, list(dict.fromkeys(["none", *methods]))


def _cells(method: DictConfig, budgets: list[Any]) -> list[tuple[DictConfig, Any]]:
    if not build_reducer(method).takes_budget:
        # They drop nothing and take no budget.
        return [(method, None)]
    return [(method, budget) for budget in budgets]


def _effort(options: dict[str, str], device: Any) -> Effort:
    from parbench.bench.measure import KERNELS, Effort

    # On a GPU torch's choice depends on whether a batch has padding, and so on the method; this one serves all.
    kernel = options["kernel"] or ("efficient" if device.type == "cuda" else "auto")
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS)
    counts = {key: whole_number(key, options[key]) for key in ("repeats", "new_tokens")}
    return Effort(warmup=whole_number("warmup", options["warmup"], least=0), kernel=kernel, **counts)


def _head(model: dict[str, Any], adapter: LlavaAdapter, effort: Effort, words: list[str]) -> dict[str, Any]:
    import torch

    from parbench.bench.peak_memory import how
    from parbench.compute.flops import CONVENTION
    from parbench.models.devices import device_name
    from parbench.models.quantization import model_title

    device, cuda = adapter.device, adapter.device.type == "cuda"
    return {
        "settings": {
            "model": model_title(model),
            "weights": adapter.fingerprint,
            "llm_layers": model.get("llm_layers"),
            "dtype": model["dtype"],
            "attention": model["attention"],
            **vars(effort),
        },
        "environment": {
            "device": device_name(device),
            "kind": device.type,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "cuda": torch.version.cuda if cuda else None,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers")},
            "parbench": __version__,
            "clock": "CUDA events in the stream" if cuda else "time.perf_counter",
            "memory": how(device),
            "flops": CONVENTION,
        },
        "commands": [" ".join(["parbench bench", *words])],
        "batches": {},
    }


def _measure(measurer: Measurer, store: BenchFile, method: DictConfig, budget: Any) -> str:
    """Measure a cell, unless that was done; gives what is to be said about it."""
    from parbench.bench.measure import DeviceFailure
    from parbench.bench.prepare import ready
    from parbench.provenance import outside_digest, source_digest

    cell = {"method": method.name, "budget": budget, "batch": len(measurer.batch)}
    name = method.name if budget is None else f"{method.name} @{budget}"
    try:
        # Any edit can change a time.
        code = source_digest() + (outside_digest(type(build_reducer(method, budget))) or "")
        if store.measured({**cell, "code": code}):
            return f"{name}: measured before"
        reducer = ready(measurer.adapter, method, budget, measurer.batch)
        figures = measurer.row(reducer)
    except DeviceFailure:
        raise
    except ParbenchError as refusal:
        store.put({**cell, "refused": str(refusal)})
        return f"{name}: left out: {refusal}"
    store.put({**cell, "code": code, "note": reducer.note, "fields": reducer.settings(), **figures})
    speedup = figures["speedup"]["prefill"]
    return f"{name}: prefill {speedup['median']:.2f}x, predicted {speedup['predicted']:.2f}x"

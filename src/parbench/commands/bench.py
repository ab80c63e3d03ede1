"""``parbench bench``: the time and memory that methods save, next to what FLOPs predict."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from parbench import __version__
from parbench.commands.options import default_results, writable
from parbench.commands.parsing import Given
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.harness.planned import Cell
from parbench.progress import bar, working
from parbench.sweep.cells import refuse_impossible
from parbench.sweep.grid import other_method

if TYPE_CHECKING:
    from parbench.bench.measure import Effort, Measurer
    from parbench.bench.store import BenchFile
    from parbench.models.adapter import ModelAdapter
    from parbench.models.geometry import Geometry

_log = logging.getLogger(__name__)

# Overrides without effect on a benchmark, or given as lists here.
_NO_PLACE = ("method=", "method.", "budget=", "limit=", "dataset", "engine", "experiment", "controls", "results_dir=")


def run(given: Given) -> None:
    """Measure the missing cells, write the file after each of them, then print the table and draw the figure."""
    if given["engine"]:
        from parbench.commands.bench_engine import run as run_engine

        return run_engine(given)
    config = _checked(given)
    # The ratio of none to itself shows how large the noise is.
    methods = list(dict.fromkeys(["none", *given["methods"]]))
    cells = [cell for name in methods for cell in _cells(other_method(name, given.rest), given["budgets"])]
    refuse_impossible([(_geometry(config), cells)])
    from parbench.bench.batch import read_batch, scenes_samples
    from parbench.bench.measure import Measurer
    from parbench.bench.report import picture, show
    from parbench.bench.store import BenchFile
    from parbench.models.adapter import ModelAdapter
    from parbench.models.devices import resolve_device
    from parbench.models.lora import named
    from parbench.models.quantization import model_title

    model = named(OmegaConf.to_container(config.model, resolve=True))  # type: ignore[arg-type]
    device = resolve_device(str(model["device"]))
    effort = _effort(given, device)
    usual = default_results() / f"bench-{model_title(model).replace(' ', '-')}-{device.type}.json"
    out = writable("out", given["out"] or usual)
    with working(f"loading {model['name']}"):
        adapter = ModelAdapter.load(model)
    store = BenchFile(out, _head(model, adapter, effort, given))
    samples = scenes_samples(adapter, max(given["batch"]), given["image"], given["frames"])
    for size in given["batch"]:
        batch = read_batch(adapter, samples[:size])
        store.content["batches"][str(size)] = {
            "preprocessing_seconds": round(batch.preprocessing, 4),
            "text_tokens": [len(prompt) - 1 for prompt in batch.prompts],
        }
        with bar(f"batch {size}", "timed run", len(cells) * effort.passes, still=True) as shown:
            measurer = Measurer(adapter, batch, effort, shown.step)
            for number, cell in enumerate(cells, 1):
                shown.title = f"batch {size}, {cell.method.name}"
                said = _measure(measurer, store, cell.method, cell.budget)
                shown.adjust((len(cells) - number) * effort.passes + shown.done, shown.done)
                _log.info(f"batch {size} [{number}/{len(cells)}] {said}")
    store.write()
    show(store.content)
    picture(store.content, out.with_suffix(".png"))
    print(out)


def _checked(given: Given) -> DictConfig:
    for word in given.rest:
        if word.lstrip("+~").startswith(_NO_PLACE):
            raise ParbenchError(
                f"{word} cannot be combined with bench, which times questions of scenes: write methods=[a,b] budgets=[1,2] "
                "batch=[1,16]"
            )
    config = compose_config(given.rest)
    for key, value in (
        ("model.device_map", config.model.get("device_map")),
        ("launcher.devices", config.launcher.get("devices")),
    ):
        if value is not None:
            raise ParbenchError(f"{key}={value} cannot be combined with bench, which measures one device")
    return config


def _geometry(config: DictConfig) -> Geometry:
    """The sizes of what is measured; with random weights it may have fewer layers."""
    from parbench.models.written_sizes import model_geometry

    geometry = model_geometry(config.model)
    if config.model.get("weights") == "random" and config.model.llm_layers:
        return replace(geometry, layers=config.model.llm_layers)
    return geometry


def _cells(method: DictConfig, budgets: list[Any]) -> list[Cell]:
    if not build_reducer(method).takes_budget:
        # A method that drops nothing takes no budget.
        return [Cell(method, None)]
    return [Cell(method, budget) for budget in budgets]


def _effort(given: Given, device: Any) -> Effort:
    from parbench.bench.measure import Effort

    # On a GPU, torch chooses the kernel by whether the batch is padded, which depends on the method. One kernel for all methods
    # makes their times comparable.
    kernel = given["kernel"] or ("efficient" if device.type == "cuda" else "auto")
    return Effort(repeats=given["repeats"], warmup=given["warmup"], new_tokens=given["new_tokens"], kernel=kernel)


def _head(model: dict[str, Any], adapter: ModelAdapter, effort: Effort, given: Given) -> dict[str, Any]:
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
            **({"image": list(given["image"])} if given["image"] else {}),
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
        "commands": [" ".join(["parbench bench", *given.words])],
        "batches": {},
    }


def _measure(measurer: Measurer, store: BenchFile, method: DictConfig, budget: Any) -> str:
    """Measure a cell unless the file has it already. Returns a message for the log."""
    from parbench.bench.measure import DeviceFailure
    from parbench.bench.prepare import ready
    from parbench.provenance import outside_digest, source_digest

    cell = {"method": method.name, "budget": budget, "batch": len(measurer.batch)}
    name = method.name if budget is None else f"{method.name} @{budget}"
    try:
        # Any change to the code can change a time.
        asked = build_reducer(method, budget)
        code = source_digest() + (outside_digest(type(asked), *map(type, asked.parts)) or "")
        if store.measured({**cell, "code": code}):
            return f"{name}: measured before"
        reducer = ready(measurer.adapter, method, budget, measurer.batch)
        figures = measurer.row(reducer)
    except DeviceFailure:
        raise
    except ParbenchError as refusal:
        store.put({**cell, "refused": str(refusal)})
        return f"{name}: skipped: {refusal}"
    store.put({**cell, "code": code, "note": reducer.note, "fields": reducer.settings(), **figures})
    speedup = figures["speedup"]["prefill"]
    return f"{name}: prefill {speedup['median']:.2f}x, predicted {speedup['predicted']:.2f}x"

"""Run folders of known answers, as the harness writes them, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parbench.results.metrics import summarise
from parbench.results.record import RunMetrics, SampleRecord
from parbench.results.run_identity import Provenance, run_id

FLOPS = {"vision": 5e9, "projector": 1e9, "reducer": 1e8, "llm_prefill": 4e9, "decode": 1e9, "total": 11.1e9}
PATCHES = 576


def identity(method: str = "none", budget: int | None = None, **fields: Any) -> dict[str, Any]:
    """What ``provenance.json`` holds; ``fields`` replace some, dotted inside a block by two underscores (dataset__split)."""
    found: dict[str, Any] = {
        "model": "llava-tiny",
        "weights": "w0",
        "clip": None,
        "dtype": "float32",
        "attention": "sdpa",
        "device": "cpu",
        "method": {"name": method, "class": f"parbench.reducers.{method}.{method.title()}", "budget": budget},
        "dataset": {
            "name": "scenes",
            "task": "scenes",
            "split": "test",
            "skill": None,
            "images": "real",
            "metric": "exact_match",
            "image_key": "image_id",
            "data": "d0",
            "columns": ["image", "question"],
            "path": None,
        },
        "limit": None,
        "engine": {"name": "shared", "share": True, "batch_size": "auto"},
        "seed": 0,
        "numerics": 1,
        "versions": {
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "lmms-eval": "0.7.3",
            "pillow": "12.0.0",
            "numpy": "2.3.0",
            "fvcore": "0.1.5",
        },
    }
    for key, value in fields.items():
        block, _, inner = key.partition("__")
        if inner:
            found[block][inner] = value
        else:
            found[block] = value
    return found


def line(number: int, score: float, per_image: int = 5, **fields: Any) -> dict[str, Any]:
    """A sample; its prediction is its target where the score is 1."""
    return {
        "id": f"scenes-{number}",
        "image_id": f"image {number // per_image}",
        "task": "scenes",
        "skill": ("colour", "count")[number % 2],
        "question": f"question {number}?",
        "prediction": "yes" if score == 1 else "no",
        "target": "yes",
        "score": score,
        "unparseable": False,
        "error": None,
        "images": 1,
        "tokens_kept": 64.0,
        "layers": [[80, 12]],
        "visual": [[64, 12]],
        "generated": 2,
        "stages": {},
        "kept": ["f" * 144],
        "margin": 1.0,
        "evidence_recall": 0.5,
        "irrelevant": 0.9,
        "repeated": 0.1,
        "flops": FLOPS,
        "seconds": 0.1,
        **fields,
    }


def sample(found: Mapping[str, Any]) -> SampleRecord:
    """A line as the harness has it; ``score`` and such may be all that there is."""
    needed = {
        "id": "scenes-0",
        "image_id": "image 0",
        "task": "scenes",
        "prediction": "yes",
        "target": "yes",
        "score": 1.0,
    }
    return SampleRecord.parse({**needed, "unparseable": False, "error": None, "tokens_kept": 64.0, **found}, "a line")


def metrics_of(lines: Sequence[SampleRecord]) -> RunMetrics:
    """Metrics of samples of a run about which nothing is known."""
    about = {
        "run_id": "0",
        "model": "m",
        "method": "x",
        "dataset": "d",
        "budget": 64,
        "chance": 0.25,
        "patches": PATCHES,
    }
    return summarise(lines, {**about, "lmms_eval": {}})


def write_run(
    root: Path,
    lines: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    note: str = "",
    trained: Mapping[str, Any] | None = None,
    finished: bool = True,
    computed_by: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """A run folder of these samples; ``about`` is its identity."""
    name = run_id(about)
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(Provenance(dict(about), computed_by).text())
    (folder / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    if finished:
        run = {
            "run_id": name,
            "model": about["model"],
            "method": about["method"]["name"],
            "dataset": about["dataset"]["name"],
            "budget": about["method"].get("budget"),
            "chance": 0.25,
            "patches": PATCHES,
            "lmms_eval": {},
            "note": note,
            "trained": trained,
        }
        (folder / "metrics.json").write_text(json.dumps(summarise([sample(one) for one in lines], run).to_json()))
    return folder


def write_scores(root: Path, scores: Sequence[float], method: str = "none", budget: int | None = None, **fields: Any) -> Path:
    """A run folder of these scores, five questions an image."""
    return write_run(root, [line(number, float(score)) for number, score in enumerate(scores)], identity(method, budget, **fields))

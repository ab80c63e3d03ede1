"""The benchmark, split, prompt and scoring of a run, which determine the published numbers it is comparable with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The usual split of each benchmark in papers, and the names of other splits in published numbers.
_USUAL = {
    "gqa": "testdev",
    "mmbench": "dev",
    "mme": "test",
    "pope": "test",
    "scienceqa": "test",
    "seedbench": "test",
    "textvqa": "validation",
}
_SUBSETS = {"validation": "val", "testdev": "test-dev"}
# Data sets that are another setting of a benchmark.
_BENCHMARKS = {"textvqa-ocr": "textvqa"}
# LLaVA-1.5's prompt, which papers use.
_PROMPT = "vicuna_v1"


@dataclass(frozen=True)
class Place:
    """What a number must share with another to be comparable.

    Attributes:
        benchmark: Name in the published numbers.
        subset: The split or part; empty for the usual one.
        setting: Other differences from the usual setting.
    """

    benchmark: str
    subset: str
    setting: str


def benchmark_of(dataset: str) -> str:
    """The name of a data set in the published numbers."""
    return _BENCHMARKS.get(dataset, dataset)


def place_of(identity: Mapping[str, Any]) -> Place:
    """The place of a run, from its ``provenance.json``."""
    dataset = identity["dataset"]
    benchmark, split = benchmark_of(dataset["name"]), dataset["split"]
    subset = "" if _USUAL.get(benchmark) == split else _SUBSETS.get(split, split)
    if benchmark == "seedbench" and (dataset.get("where") or {}).get("data_type") == "image":
        subset = "image"
    said = []
    if benchmark == "textvqa":
        said.append("OCR tokens" if dataset.get("ocr") else "no OCR tokens")
    if benchmark == "mmbench":
        said.append("CircularEval" if dataset.get("circular") else "mean over rows")
    if dataset.get("images") not in (None, "real"):
        said.append(f"{dataset['images']} for images")
    if dataset.get("max_new_tokens") is not None:
        said.append(f"max_new_tokens={dataset['max_new_tokens']}")
    if identity.get("prompt") not in (None, _PROMPT):
        said.append(f"prompt={identity['prompt']}")
    return Place(benchmark, subset, ", ".join(said))

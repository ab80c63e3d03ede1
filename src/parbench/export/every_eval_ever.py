"""Runs in the Every Eval Ever schema (https://evalevalai.com): an aggregate record a run, and a line a sample beside it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.export.identity import hub_dataset, model_id
from parbench.export.measured import Measured, measured
from parbench.files import write_whole
from parbench.results.comparable import text
from parbench.results.loading import Results
from parbench.statistics.answers import RIGHT
from parbench.statistics.bootstrap import DRAWS, LEVEL

SCHEMA = "0.3.0"
# The range and unit of each measure; MME has 14 categories of 200 points.
_RANGES = {"accuracy": (1.0, "proportion"), "f1": (1.0, "proportion"), "points": (2800.0, "points")}


@dataclass(frozen=True)
class Publisher:
    """Who exports.

    Attributes:
        organization: Who made the results.
        relationship: Theirs to the model: ``third_party``, ``first_party``, ``collaborative`` or ``other``.
        model_id: ``ORG/NAME`` of models that do not come from the hub.
    """

    organization: str = "unknown"
    relationship: str = "third_party"
    model_id: str | None = None


def write_every_eval_ever(results: Results, out: Path, publisher: Publisher) -> list[Path]:
    """Write ``out/data/DATASET/ORG/MODEL/UUID.json`` and ``UUID_samples.jsonl`` for every run, the layout of the datastore.

    The file names depend on the runs alone: what is exported again is replaced.

    Args:
        results: The runs, with all columns of their samples.
        out: The folder.
        publisher: Who exports.

    Returns:
        The aggregate files.

    Raises:
        ParbenchError: A model has no id, or no run has scores.
        OSError: The folder cannot be written.
    """
    # Every id is asked for before a file is written.
    named = [(one, model_id(one.run, publisher.model_id)) for one in measured(results)]
    now = str(int(time.time()))
    written = []
    for one, model in named:
        place = Path("data") / one.run["dataset"] / model
        name = uuid.UUID(bytes=hashlib.sha256(one.run["run_id"].encode()).digest()[:16], version=4)
        samples = place / f"{name}_samples.jsonl"
        record = _aggregate(one, model, publisher, now)
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(one, record))
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": samples.as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines.encode()).hexdigest(),
            "total_rows": len(one.samples),
        }
        (out / place).mkdir(parents=True, exist_ok=True)
        write_whole(out / samples, lines)
        written.append(out / place / f"{name}.json")
        write_whole(written[-1], json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return written


def _aggregate(one: Measured, model: str, publisher: Publisher, now: str) -> dict[str, Any]:
    run = one.run
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{run['dataset']}/{model}/{run['run_id']}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "parbench",
            "source_type": "evaluation_run",
            "source_organization_name": publisher.organization,
            "evaluator_relationship": publisher.relationship,
        },
        "eval_library": {
            "name": "parbench",
            "version": _version(run),
            "additional_details": _texts({"url": _home(), **_versions(run), "numerics": run["identity"].get("numerics")}),
        },
        "model_info": _model(run, model),
        "evaluation_results": list(_results(one)),
    }


def _version(run: Mapping[str, Any]) -> str:
    """The parbench that computed the run, not the one that exports it."""
    return next((state["parbench"] for state in run["computed_by"] if state.get("parbench")), "unknown")


def _versions(run: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_version": version for name, version in run["identity"]["versions"].items() if name != "parbench"}


def _home() -> str | None:
    """The project's address, which ``pyproject.toml`` states."""
    urls = importlib.metadata.metadata("parbench").get_all("Project-URL") or []
    return dict(url.split(", ", 1) for url in urls).get("Repository")


def _model(run: Mapping[str, Any], model: str) -> dict[str, Any]:
    identity = run["identity"]
    about = {
        "deployment_type": "self_deployed",
        "model_availability": "open_weights",
        "dtype": identity["dtype"],
        "device": identity.get("device"),
        "quantization": run["quantization"],
        "weights_sha256": identity["weights"],
        "visual_token_reduction": json.dumps(run["settings"], sort_keys=True),
    }
    engine = {"name": "transformers", "version": identity["versions"].get("transformers", "unknown")}
    named = {"name": identity["model"], "id": model, "developer": model.partition("/")[0]}
    return {**named, "inference_engine": engine, "additional_details": _texts(about)}


def _results(one: Measured) -> Iterator[dict[str, Any]]:
    run = one.run
    yield _result(one, run["dataset"], one.value, _uncertainty(one), one.measure.name)
    for skill, value in run["skills"].items():
        count = int((one.samples["skill"] == skill).sum())
        yield _result(one, f"{run['dataset']}/{skill}", value, {"num_samples": count}, "accuracy")


def _result(one: Measured, name: str, score: float, uncertainty: Mapping[str, Any], measure: str) -> dict[str, Any]:
    run, (most, unit) = one.run, _RANGES[measure]
    costs = ("tokens_mean", "tokens_std", "compression", "evidence_recall", "flops_prefill", "failures", "unparseable")
    return {
        "evaluation_result_id": f"{name}/{measure}",
        "evaluation_name": name,
        "source_data": _source(run),
        "metric_config": {
            "evaluation_description": f"{run['label']}: {measure} of answers from reduced visual tokens",
            "metric_id": measure,
            "metric_name": measure,
            "metric_kind": measure,
            "metric_unit": unit,
            "metric_parameters": {"lmms_eval": text(run["dataset.metric"])},
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": most,
        },
        "score_details": {
            "score": score,
            "details": _texts({"method": run["method"], "budget": one.budget, **{cost: run[cost] for cost in costs}}),
            "uncertainty": dict(uncertainty),
        },
        "generation_config": _generation(run),
    }


def _uncertainty(one: Measured) -> dict[str, Any]:
    if not one.has_interval:
        return {"num_samples": one.questions}
    method = "percentile bootstrap over images, expanded for few images"
    interval = {"lower": one.low, "upper": one.high, "confidence_level": LEVEL, "method": method}
    return {"confidence_interval": interval, "num_samples": one.questions, "num_bootstrap_samples": DRAWS}


def _source(run: Mapping[str, Any]) -> dict[str, Any]:
    about = {
        "split": run["dataset.split"],
        "limit": run.get("limit"),
        "sha256": run["identity"]["dataset"].get("data"),
        "images": run.get("dataset.images"),
    }
    named = {"dataset_name": run["dataset"], "additional_details": _texts(about)}
    if hub := hub_dataset(run):
        return {**named, "source_type": "hf_dataset", "hf_repo": hub, "hf_split": run["dataset.split"], "samples_number": run["n"]}
    return {**named, "source_type": "other"}


def _generation(run: Mapping[str, Any]) -> dict[str, Any]:
    longest = run["identity"]["dataset"].get("max_new_tokens")
    arguments = {"temperature": 0.0, **({"max_tokens": longest} if longest else {})}
    about = {"decoding": "greedy", "prompt": run["identity"].get("prompt"), "seed": run["identity"]["seed"]}
    return {"generation_args": arguments, "additional_details": _texts(about)}


def _lines(one: Measured, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A line a sample, each of the first result: the schema has one result a line."""
    overall = record["evaluation_results"][0]
    shared = {
        "schema_version": SCHEMA,
        "evaluation_id": record["evaluation_id"],
        "model_id": record["model_info"]["id"],
        "evaluation_name": overall["evaluation_name"],
        "evaluation_result_id": overall["evaluation_result_id"],
        "interaction_type": "single_turn",
    }
    method = text(one.run["dataset.metric"])
    for sample in one.samples.to_dict("records"):
        yield {**shared, **_line({str(column): value for column, value in sample.items()}, method)}


def _line(sample: Mapping[str, Any], method: str) -> dict[str, Any]:
    targets = sample["target"] if isinstance(sample["target"], list) else [sample["target"]]
    reference = [str(target) for target in targets]
    error = sample["error"] if isinstance(sample["error"], str) else None
    score = float(sample["score"])
    about = {name: sample.get(name) for name in ("skill", "image_id", "tokens_kept", "evidence_recall")}
    answer = {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": sample["prediction"],
        "extraction_method": method,
        "is_terminal": True,
    }
    line = {
        "sample_id": sample["id"],
        "sample_hash": hashlib.sha256((sample["question"] + "".join(reference)).encode()).hexdigest(),
        "input": {"raw": sample["question"], "reference": reference},
        "output": {"raw": [sample["prediction"]]},
        "answer_attribution": [answer],
        "evaluation": {"score": score, "is_correct": score >= RIGHT},
        "error": error,
        "metadata": _texts(about),
    }
    return line | _usage(sample)


def _usage(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens that enter the LLM's first layer, and those it generated."""
    if not isinstance(sample["layers"], list) or sample["generated"] != sample["generated"]:
        return {}
    read, said = int(sample["layers"][0][0]), int(sample["generated"])
    return {"token_usage": {"input_tokens": read, "output_tokens": said, "total_tokens": read + said}}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The schema's free details: all of them text; what is not known is left out."""
    return {key: str(value) for key, value in values.items() if value is not None and value == value and value != ""}

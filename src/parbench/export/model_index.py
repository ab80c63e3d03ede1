"""Runs as the ``model-index`` of a Hugging Face model card: YAML for its front matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.export.identity import hub_dataset, model_id
from parbench.export.measured import Measured, measured
from parbench.files import write_whole
from parbench.results.loading import Results
from parbench.statistics.bootstrap import LEVEL

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "visual-question-answering"


def write_model_index(results: Results, out: Path, given: str | None = None) -> list[Path]:
    """Write ``out/ORG/MODEL/model-index.yaml`` for every model.

    Args:
        results: The runs, with all columns of their samples.
        out: The folder.
        given: ``ORG/NAME`` of models that do not come from the hub.

    Returns:
        The files.

    Raises:
        ParbenchError: A model has no id, or no run has scores.
        OSError: The folder cannot be written.
    """
    models: dict[str, list[Measured]] = {}
    for one in measured(results):
        models.setdefault(model_id(one.run, given), []).append(one)
    written = []
    for model, runs in models.items():
        path = out / model / "model-index.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, model_index(model.partition("/")[2], runs))
        written.append(path)
    return written


def model_index(name: str, runs: Sequence[Measured]) -> str:
    """The block of a model card, as YAML.

    Args:
        name: The model's.
        runs: What was measured of it.
    """
    from huggingface_hub import ModelCardData

    return str(ModelCardData(model_name=name, eval_results=[_entry(one) for one in runs]).to_yaml()) + "\n"


def _entry(one: Measured) -> EvalResult:
    from huggingface_hub import EvalResult

    run = one.run
    costs = {"tokens": run["tokens_mean"], "compression": run["compression"], "prefill_flops": run["flops_prefill"]}
    arguments: dict[str, Any] = {"method": run["method"], "budget": one.budget, **costs}
    if one.has_interval:
        arguments |= {"confidence_interval": [one.low, one.high], "confidence_level": LEVEL}
    return EvalResult(
        task_type=TASK,
        dataset_type=hub_dataset(run) or run["dataset"],
        dataset_name=run["dataset"],
        dataset_split=run["dataset.split"],
        dataset_args={"questions": one.questions},
        metric_type=one.measure.name,
        metric_name=f"{one.measure.name}, {run['label']}",
        metric_value=one.value,
        metric_args={key: value for key, value in arguments.items() if not _unknown(value)},
    )


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))

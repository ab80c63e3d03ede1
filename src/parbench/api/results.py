"""Evaluates, loads and compares runs from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.api.methods import budget_of
from parbench.api.models import LIKE, configured, settings_of
from parbench.errors import ParbenchError
from parbench.results.folders import Run, in_order, read
from parbench.results.loading import Results, read_runs

if TYPE_CHECKING:
    import pandas as pd


class Runs(list[Run]):
    """Runs, ordered by model, data set, method and budget; each has ``id``, ``folder``, ``identity``, ``metrics`` and ``lines``."""

    def __repr__(self) -> str:
        """The number of runs, and their names."""
        return f"<{len(self)} runs: {', '.join(self.frame['label']) if self else 'none'}>"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run: ``label``, ``accuracy``, ``tokens_mean``, ``flops_prefill`` ... and the identity by its dotted names."""
        from parbench.results.frames import runs_frame

        return runs_frame(self)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per answer: ``run_id``, ``label``, ``id``, ``image_id``, ``prediction``, ``target``, ``score`` ..."""
        from parbench.results.frames import samples_frame

        return samples_frame(self).merge(self.frame[["run_id", "label"]], on="run_id")


def evaluate(
    *,
    methods: str | Sequence[str],
    budgets: float | str | Sequence[float | str] = (64,),
    model: str = "llava-tiny",
    dataset: str = "scenes",
    limit: int | None = None,
    results_dir: str | Path = "results/runs",
    **overrides: Any,
) -> Runs:
    """Evaluate methods at budgets like ``parbench sweep``, together with the unreduced model and the controls.

    A finished run in ``results_dir`` is read back, and an interrupted one is resumed. If several budgets are given, those that
    are impossible for a method on this model are skipped with a warning.

    Args:
        methods: Names in ``conf/method``.
        budgets: Visual tokens to keep per image: integers, ratios, or ``own`` for each method's own rule.
        model: A name in ``conf/model``, a checkpoint's folder, or ``org/model`` on the hub.
        dataset: A name in ``conf/dataset``, or any lmms-eval task.
        limit: The number of questions to evaluate, from the first; None for all.
        results_dir: The folder of the runs.
        overrides: Other keys of the configuration: ``controls=[]``, ``seed=1``, ``engine={"batch_size": 8}``.

    Raises:
        ParbenchError: A name or value is invalid, or a run failed; the same call then resumes the rest.
    """
    from parbench.config import compose_config
    from parbench.config.composed import check_method
    from parbench.config.spelling import written
    from parbench.reducers.budget import check_budget
    from parbench.sweep.cells import grid_cells
    from parbench.sweep.devices.runner import local_sweep
    from parbench.sweep.runner import Group

    given = {**_model(model), "dataset": dataset, "limit": limit, "results_dir": str(results_dir), **overrides}
    words = [f"{key}={written(value)}" for key, value in _dotted(given)]
    config = compose_config(words)
    asked = _several(methods)
    for name in asked:
        check_method(name)
    counts = [budget_of(budget) for budget in _several(budgets)]
    for count in counts:
        check_budget(count)
    # With a single budget, an impossible method is an error before anything is computed.
    cells = [
        replace(cell, required=len(counts) == 1 and cell.method.name in asked)
        for cell in grid_cells(asked, counts, config.controls, words)
    ]
    sweep = local_sweep([Group(config, cells, asked=tuple(asked))], go_on=True)
    sweep.compute()
    if sweep.failed:
        said = "; ".join(f"{name}: {why}" for name, why in sweep.failed)
        raise ParbenchError(f"{len(sweep.failed)} of {len(cells)} runs failed, and the same call tries them again: {said}")
    return Runs(in_order(read(folder) for folder in sweep.folders))


def _model(name_or_path: str) -> dict[str, Any]:
    """The configuration keys that select a model: its name, or for another model its path and what differs from the default."""
    from parbench.config.plain import option

    if name := configured(name_or_path):
        return {"model": name}
    usual = option("model", LIKE)
    own = {key: value for key, value in settings_of(name_or_path).items() if value != usual[key]}
    return {"model": LIKE, **{f"model.{key}": value for key, value in own.items()}}


def _several(values: Any) -> list[Any]:
    return [values] if isinstance(values, str | int | float) else list(values)


def _dotted(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", list(value) if isinstance(value, tuple) else value


def load_results(paths: str | Path | Sequence[str | Path] = "results/runs") -> Runs:
    """The finished runs in some folders, at any depth.

    Args:
        paths: Run folders, or folders that contain runs.

    Raises:
        ParbenchError: A path does not exist, a run is damaged, or there is no run.
    """
    runs, _, _ = read_runs(paths)
    return Runs(runs)


def compare(runs: Sequence[Run] | str | Path, metric: str | None = None) -> pd.DataFrame:
    """Compare runs of one model on one data set, with the columns of ``parbench table --format=csv``.

    Args:
        runs: From :func:`evaluate` or :func:`load_results`, or a folder.
        metric: The measure; None for the one in which the data set is reported.

    Returns:
        One row per run. ``score`` is the value of the measure, ``X_low`` and ``X_high`` are the ends of X's 95 % interval, and
        ``X_p_holm`` is the corrected p-value for X being zero. Accuracies and shares are in 0..1.

    Raises:
        ParbenchError: The runs differ in more than the method, or the measure is not available for them.
    """
    from parbench.results.frames import runs_frame, samples_frame
    from parbench.tables import comparing
    from parbench.tables.data import data

    those = load_results(runs) if isinstance(runs, str | Path) else runs
    if not those:
        raise ParbenchError("there are no runs to compare: give those of parbench.evaluate or parbench.load_results")
    results = Results(runs_frame(those), samples_frame(those, comparing.COLUMNS))
    return data(comparing.compare(results, metric, quantized=True))

"""``parbench sweep``: methods x budgets, or an experiment's variants, in one process, with a table a model and data set."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from parbench.commands.options import as_list, split_options, whole_number
from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError, unknown
from parbench.harness.planned import Cell
from parbench.reducers.budget import check_budget
from parbench.sweep.devices.runner import local_sweep
from parbench.sweep.dry_run import DRY_RUN, dry_run
from parbench.sweep.experiment import variant_cells
from parbench.sweep.grid import other_method, products
from parbench.sweep.runner import Group
from parbench.sweep.task_groups import with_tasks

DEFAULT_METHODS = "par,prumerge-plus,fastv"
DEFAULT_BUDGETS = "192,128,64"


def run(words: list[str]) -> int:
    """Evaluate the grid and print the tables; a cell that the model cannot have is left out with a word."""
    words, dry = [word for word in words if word != DRY_RUN], DRY_RUN in words
    alone = expand(words)
    titles = [" ".join(word for word in one if word not in words) if len(alone) > 1 else "" for one in alone]
    groups = [_group(one, title) for one, title in zip(alone, titles, strict=True)]
    if dry:
        return dry_run(groups)
    launcher: dict[str, Any] = OmegaConf.to_container(groups[0].config.launcher, resolve=True)  # type: ignore[assignment]
    if launcher.get("name") == "local":
        return local_sweep(groups, go_on=True).run()
    if launcher.get("name") != "slurm":
        raise unknown("launcher.name", str(launcher.get("name")), ("local", "slurm"))
    from parbench.sweep.slurm.runner import SlurmSweep, job_words
    from parbench.sweep.slurm.submit import check_settings

    check_settings(launcher)
    alone = [job_words(one, group.config.model.device, launcher) for one, group in zip(alone, groups, strict=True)]
    return SlurmSweep([_group(one, title) for one, title in zip(alone, titles, strict=True)], alone, launcher).run()


def expand(words: list[str]) -> list[list[str]]:
    """The words of the sweeps that a sweep consists of, each of one model, one data set and one shard, those of a model together.

    ``models=[a,b]`` is ``model=a,b`` for short, ``datasets=[x,y]`` likewise, and ``shards=4`` is ``shard=0/4,1/4,2/4,3/4``.

    Raises:
        ParbenchError: A word cannot be parsed.
    """
    options, rest = split_options(words, {"models": "", "datasets": "", "shards": ""})
    for word in rest:
        if word.lstrip("+~").startswith(("launcher=", "launcher.")) and len(products([word])) > 1:
            key, _, value = word.partition("=")
            raise ParbenchError(
                f"{word} stands for several values, but a sweep has one launcher: a list of Slurm's is one word in quotes, "
                f"\"{key}='{value}'\""
            )
    grid = [word for word in rest if word.startswith(("methods=", "budgets="))]
    rest = [word for word in rest if word not in grid]
    for one, key in (("model", "models"), ("dataset", "datasets")):
        if options[key]:
            rest.append(f"{one}={','.join(map(str, as_list(key, options[key])))}")
    if options["shards"]:
        parts = whole_number("shards", options["shards"])
        rest.append(f"shard={','.join(f'{part}/{parts}' for part in range(parts))}")
    rest = with_tasks(rest)
    # The first word varies slowest.
    rest.sort(key=lambda word: not word.startswith("model="))
    return [[*grid, *one] for one in products(rest)]


def _group(words: list[str], title: str) -> Group:
    options, rest = split_options(words, {"methods": DEFAULT_METHODS, "budgets": DEFAULT_BUDGETS})
    methods = [str(name) for name in as_list("methods", options["methods"])]
    methods = names("method") if methods == ["all"] else methods
    for name in methods:
        if name not in names("method"):
            raise unknown("method", name, names("method"))
    experiment = any(word.startswith("experiment=") for word in rest)
    for word in rest:
        if word.lstrip("+~").startswith(("method=", "method.", *([] if experiment else ["budget="]))):
            raise ParbenchError(
                f"{word} has no place in a sweep, which goes over methods and budgets: write methods=[a,b] budgets=[1,2]"
            )
    config = compose_config(rest)
    if config.variants:
        unused = [word for word in words if word.startswith(("methods=", "budgets="))]
        if unused:
            raise ParbenchError(f"{unused[0]} has no place in an experiment, which names its variants: give budget=64 instead")
        return Group(config, lambda session: variant_cells(session, rest), title)
    budgets = as_list("budgets", options["budgets"])
    for budget in budgets:
        check_budget(budget, "budgets")
    cells: list[Cell] = []
    for name in dict.fromkeys(["none", *methods, *config.controls]):
        method = other_method(name, rest)
        own_rule = name == "none" or (name in methods and build_reducer(method).budget is None)
        cells += [Cell(method, budget) for budget in budgets if name != "none"]
        cells += [Cell(method, None)] if own_rule else []
    return Group(config, lambda session: cells, title)

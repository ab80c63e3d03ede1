"""``parbench sweep``: evaluate methods at budgets, or the variants of an experiment, and print a table per data set."""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import OmegaConf

from parbench.commands.options import as_list, unquoted
from parbench.commands.parsing import Given
from parbench.config import compose_config, names
from parbench.errors import ParbenchError, unknown
from parbench.sweep.cells import grid_cells, refuse_impossible
from parbench.sweep.devices.runner import local_sweep
from parbench.sweep.dry_run import dry_run
from parbench.sweep.estimate import Estimate, agreed, estimate
from parbench.sweep.experiment import variant_cells
from parbench.sweep.grid import products
from parbench.sweep.runner import Group
from parbench.sweep.task_groups import with_tasks

_log = logging.getLogger(__name__)

_GRID = ("methods", "budgets")


def run(given: Given) -> int:
    """Evaluate the grid and print the tables. Combinations that are impossible for the model are skipped with a warning.

    Returns:
        The exit code; 2 if the person does not confirm the plan.

    Raises:
        ParbenchError: An option or override is wrong.
    """
    alone = expand(given)
    titles = [" ".join(word for word in one if word not in given.words) if len(alone) > 1 else "" for one in alone]
    groups = [_group(given, one, title) for one, title in zip(alone, titles, strict=True)]
    if "budgets" in given.named:
        _refuse_impossible(groups)
    if given["dry-run"]:
        return dry_run(groups)
    launcher: dict[str, Any] = OmegaConf.to_container(groups[0].config.launcher, resolve=True)  # type: ignore[assignment]
    local = launcher.get("name") == "local"
    if not local and launcher.get("name") != "slurm":
        raise unknown("launcher.name", str(launcher.get("name")), ("local", "slurm"))
    if not local:
        from parbench.sweep.slurm.submit import check_settings

        check_settings(launcher)
    begun = None
    if not given["yes"] and not _names_something(given):
        found = _estimated(groups, here=local and not launcher.get("devices"))
        if not agreed(found, "choose less, such as methods=[par] budgets=[64] limit=200"):
            return 2
        begun = found.session
    if local:
        return local_sweep(groups, go_on=True, begun=begun).run()
    from parbench.sweep.slurm.runner import SlurmSweep, job_words

    alone = [job_words(one, group.config.model.device, launcher) for one, group in zip(alone, groups, strict=True)]
    groups = [_group(given, one, title) for one, title in zip(alone, titles, strict=True)]
    # The plan was confirmed before submission.
    jobs = [[*given.typed(*_GRID), *one, "--yes"] for one in alone]
    return SlurmSweep(groups, jobs, launcher).run()


def _refuse_impossible(groups: list[Group]) -> None:
    """Refuse a budget that nothing can have, where the sizes of all models are on this machine."""
    from parbench.models.written_sizes import known_geometry

    try:
        sizes = [known_geometry(group.config.model) for group in groups]
    except ParbenchError:
        # A model that cannot be opened is reported later, and the others are evaluated.
        return
    if None not in sizes:
        refuse_impossible([(known, group.cells) for known, group in zip(sizes, groups, strict=True) if known])


def _names_something(given: Given) -> bool:
    return any(key in given.named for key in _GRID) or any(word.startswith("experiment=") for word in given.rest)


def _estimated(groups: list[Group], *, here: bool) -> Estimate:
    """The estimated work of a sweep without named methods or budgets, which is printed too."""
    found = estimate(groups, here=here)
    _log.info(f"neither methods nor budgets are named: {found}")
    return found


def expand(given: Given) -> list[list[str]]:
    """Split a sweep into sweeps of one model, data set and shard each, ordered by model.

    ``models=[a,b]`` is expanded like ``model=a,b``, ``datasets=[x,y]`` like ``dataset=x,y``, and ``shards=4`` like
    ``shard=0/4,1/4,2/4,3/4``.

    Returns:
        The overrides of each sweep.

    Raises:
        ParbenchError: An override cannot be parsed, contradicts an option, or gives several launchers.
    """
    rest = list(given.rest)
    for word in rest:
        if word.lstrip("+~").startswith(("launcher=", "launcher.")) and len(products([word])) > 1:
            key, _, value = word.partition("=")
            raise ParbenchError(
                f"{word} gives several values, but a sweep has one launcher: quote a list for Slurm as \"{key}='{value}'\""
            )
    for one, key in (("model", "models"), ("dataset", "datasets"), ("shard", "shards")):
        if given[key] and (also := next((word for word in rest if word.startswith(f"{one}=")), None)):
            raise ParbenchError(f"{also} cannot be combined with {given.typed(key)[0]}: leave one of them out")
    for one, key in (("model", "models"), ("dataset", "datasets")):
        if given[key]:
            rest.append(f"{one}={','.join(given[key])}")
    if parts := given["shards"]:
        rest.append(f"shard={','.join(f'{part}/{parts}' for part in range(parts))}")
    rest = with_tasks(rest)
    # The first override varies slowest, so that each model is loaded once.
    rest.sort(key=lambda word: not word.startswith("model="))
    return products(rest)


def _group(given: Given, rest: list[str], title: str) -> Group:
    experiment = any(word.startswith("experiment=") for word in rest)
    for word in rest:
        if word.lstrip("+~").startswith(("method=", "method.", *([] if experiment else ["budget="]))):
            raise ParbenchError(
                f"{word} cannot be combined with sweep, which takes methods and budgets: write methods=[a,b] budgets=[1,2]"
            )
    config = compose_config(rest)
    if config.variants:
        if unused := given.typed(*_GRID):
            raise ParbenchError(
                f"{unused[0]} cannot be combined with an experiment, which defines its variants: set budget=64 instead"
            )
        return Group(config, title=title, variants=lambda session: variant_cells(session, rest))
    cells = grid_cells(given["methods"], given["budgets"], config.controls, rest)
    return Group(config, cells, title, _asked(given))


def _asked(given: Given) -> tuple[str, ...]:
    """The methods that have to run: those named one by one. Of a group of methods some may be impossible."""
    if "methods" not in given.named or set(given["methods"]) == set(names("method")):
        return ()
    key, _, value = given.typed("methods")[-1].lstrip("-").partition("=")
    named = as_list(key, unquoted(value))
    return tuple(name for name in given["methods"] if name in named)

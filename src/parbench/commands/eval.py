"""``parbench eval``: evaluate a method, together with the unreduced model and the controls at its budget."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from parbench.commands.parsing import Given
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.harness.planned import Cell
from parbench.sweep.devices.runner import local_sweep
from parbench.sweep.dry_run import dry_run
from parbench.sweep.grid import of_method, other_method, products
from parbench.sweep.runner import Group
from parbench.sweep.task_groups import with_tasks


def run(given: Given) -> int:
    """Evaluate and print the table. As in Hydra, ``-m`` evaluates every combination of comma-separated values.

    With ``--dry-run``, only print what would be downloaded and computed.

    Returns:
        The exit code.

    Raises:
        ParbenchError: An override is wrong, or the model or data set cannot be loaded.
    """
    words, dry = given.rest, given["dry-run"]
    if other := next((word for word in words if word.startswith("launcher=") and word != "launcher=local"), None):
        raise ParbenchError(f"{other} cannot be combined with eval: write parbench sweep methods=[NAME] {other}")
    rest = with_tasks(words)
    # A group of tasks is expanded to several evaluations, even without -m.
    several = given["multirun"] or len(products(rest)) > len(products(words)) == 1
    if several and dry:
        return dry_run(_groups(rest))
    if several:
        return local_sweep(_groups(rest), go_on=True).run()
    config = compose_config(rest)
    cells = [*_companions(config, rest), Cell(config.method, config.budget, required=True)]
    group = Group(config, cells)
    return dry_run([group]) if dry else local_sweep([group], go_on=False).run()


def _groups(words: list[str]) -> list[Group]:
    """The evaluations of a multirun. Those that differ only in method and budget form a group."""
    together: dict[tuple[str, ...], list[list[str]]] = {}
    for one in products(words):
        together.setdefault(tuple(word for word in one if not of_method(word)), []).append(one)
    groups = []
    for shared, evaluations in together.items():
        cells = [cell for one in evaluations for cell in _cells(one, [word for word in one if word not in words])]
        title = " ".join(word for word in shared if word not in words)
        groups.append(Group(compose_config(evaluations[0]), cells, title))
    return groups


def _cells(words: list[str], varied: Sequence[str]) -> list[Cell]:
    """The cells of one evaluation. If fields of the method vary, its label contains their values."""
    config = compose_config(words)
    fields = [word.partition("method.")[2] for word in varied if "method." in word.partition("=")[0]]
    budget = "" if config.budget is None else f" @{config.budget}"
    label = f"{config.method.name}{budget} {' '.join(fields)}" if fields else ""
    return [*_companions(config, words), Cell(config.method, config.budget, label=label)]


def _companions(config: DictConfig, words: list[str]) -> list[Cell]:
    """``none``, and the controls at the method's budget, if it has one."""
    if config.variants:
        raise ParbenchError("an experiment has several variants: write parbench sweep experiment=NAME")
    method = build_reducer(config.method, config.budget)
    cells = []
    if method.name != "none":
        cells.append(Cell(other_method("none", words), None))
    if not method.control and method.budget is not None:
        cells += [Cell(other_method(name, words), method.written_budget) for name in config.controls]
    return cells

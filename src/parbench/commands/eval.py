"""``parbench eval``: one method, beside no reduction and the controls at its budget."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError

if TYPE_CHECKING:
    from parbench.harness.session import Session


@dataclass(frozen=True)
class Cell:
    """A method at a budget.

    Attributes:
        method: Its configuration.
        budget: Instead of the configuration's own; None leaves that.
        required: Whether it is an error if the model cannot have it; else it is left out with a word.
        label: What the table calls it; empty for the method's name.
    """

    method: DictConfig
    budget: int | float | None
    required: bool = False
    label: str = ""


def run(words: list[str]) -> None:
    """Evaluate and print the table."""
    config = compose_config(words)
    if config.variants:
        raise ParbenchError("an experiment has several variants: write parbench sweep experiment=NAME")
    table([*companions(config, words), Cell(config.method, config.budget, required=True)], open_session(config))


def companions(config: DictConfig, words: list[str]) -> list[Cell]:
    """``none``, and for a method with a budget the controls at the same one."""
    method = build_reducer(config.method, config.budget)
    cells = []
    if method.name != "none":
        cells.append(Cell(other_method("none", words), None))
    if not method.control and method.budget is not None:
        cells += [Cell(other_method(name, words), method.budget) for name in config.controls]
    return cells


def other_method(name: str, words: list[str]) -> DictConfig:
    """Another method's configuration in the same surroundings; overrides of the first one's fields do not concern it."""
    kept = [word for word in words if not word.lstrip("+~").startswith(("method=", "method.", "budget="))]
    if name not in names("method"):
        raise ParbenchError(f"controls names '{name}', which is no method: known are {', '.join(names('method'))}")
    return compose_config([*kept, f"method={name}"]).method


def open_session(config: DictConfig) -> Session:
    """Model and data set of a configuration."""
    from parbench.harness.session import Session

    return Session(config)


def table(cells: list[Cell], session: Session) -> None:
    """Check every cell, evaluate them one after the other in this process, print one table."""
    from parbench.harness.evaluate import evaluate
    from parbench.tables import show

    possible = [cell for cell in cells if _possible(cell, session)]
    found = []
    for number, cell in enumerate(possible, 1):
        result = evaluate(session, cell.method, cell.budget)
        said = "finished before, nothing recomputed" if result.reused else "done"
        print(
            f"[{number}/{len(possible)}] {cell.label or cell.method.name}: {said} ({result.folder})",
            file=sys.stderr,
            flush=True,
        )
        found.append(result.folder)
    show(found, [cell.label for cell in possible])


def _possible(cell: Cell, session: Session) -> bool:
    try:
        # What belongs to its identity has to be there too: said now rather than after the others' results.
        session.identity(session.reducer(cell.method, cell.budget))
    except ParbenchError as error:
        if cell.required:
            raise
        print(f"left out: {error}", file=sys.stderr)
        return False
    return True

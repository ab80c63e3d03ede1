"""``parbench eval``: one method, beside no reduction and the controls at its budget."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError

if TYPE_CHECKING:
    from parbench.harness.evaluate import Session


def run(words: list[str]) -> None:
    """Evaluate and print the table."""
    config = compose_config(words)
    cells = [(config.method, config.budget)]
    table([*companions(config, words), *cells], config)


def companions(config: DictConfig, words: list[str]) -> list[tuple[DictConfig, Any]]:
    """``none``, and for a method with a budget the controls at the same one."""
    method = build_reducer(config.method, config.budget)
    cells = []
    if method.name != "none":
        cells.append((_method("none", words), None))
    if not method.control and method.budget is not None:
        cells += [(_method(name, words), method.budget) for name in config.controls]
    return cells


def _method(name: str, words: list[str]) -> DictConfig:
    """Another method's configuration in the same surroundings; overrides of the first one's fields do not concern it."""
    kept = [word for word in words if not word.lstrip("+~").startswith(("method=", "method.", "budget="))]
    if name not in names("method"):
        raise ParbenchError(f"controls names '{name}', which is no method: known are {', '.join(names('method'))}")
    return compose_config([*kept, f"method={name}"]).method


def table(cells: list[tuple[DictConfig, Any]], config: DictConfig) -> list[dict[str, Any]]:
    """Check every cell, evaluate them one after the other in this process, print one table."""
    from parbench.harness.evaluate import Session, evaluate
    from parbench.tables import show

    session = Session(config)
    runnable = [cell for cell in cells if _possible(cell, session, required=cell is cells[-1])]
    found = []
    for number, (method, budget) in enumerate(runnable, 1):
        result = evaluate(session, method, budget)
        said = "finished before, nothing recomputed" if result.reused else "done"
        print(f"[{number}/{len(runnable)}] {method.name}: {said} ({result.folder})", file=sys.stderr, flush=True)
        found.append(result.metrics)
    show(found)
    return found


def _possible(cell: tuple[DictConfig, Any], session: Session, required: bool) -> bool:
    """Whether the model can have this cell; an impossible control is left out with a word, an impossible method is an error."""
    try:
        session.reducer(*cell)
    except ParbenchError as error:
        if required or not build_reducer(*cell).control:
            raise
        print(f"left out: {error}", file=sys.stderr)
        return False
    return True

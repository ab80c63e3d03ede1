"""``parbench sweep``: methods x budgets, or an experiment's variants, in one process, with one table at the end."""

from __future__ import annotations

from parbench.commands.eval import Cell, open_session, other_method, table
from parbench.commands.options import as_list, split_options
from parbench.commands.variants import variant_cells
from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError, unknown

DEFAULT_METHODS = "par,prumerge-plus,fastv"
DEFAULT_BUDGETS = "192,128,64"


def run(words: list[str]) -> None:
    """Evaluate the grid and print the table; a cell that the model cannot have is left out with a word."""
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
            raise ParbenchError(
                f"{unused[0]} has no place in an experiment, which names its variants: give budget=64 instead"
            )
        session = open_session(config)
        table(variant_cells(session, rest), session)
        return
    budgets = as_list("budgets", options["budgets"])
    cells: list[Cell] = []
    for name in dict.fromkeys(["none", *methods, *config.controls]):
        method = other_method(name, rest)
        own_rule = name == "none" or (name in methods and build_reducer(method).budget is None)
        cells += [Cell(method, budget) for budget in budgets if name != "none"]
        cells += [Cell(method, None)] if own_rule else []
    table(cells, open_session(config))

"""``parbench flops``: what a model costs at given numbers of visual tokens, without weights."""

from __future__ import annotations

import json
from typing import Any

from parbench.commands.options import as_list, split_options, whole_number
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError

_OPTIONS = {"tokens": "null", "text": "60", "place": "after_projector"}


def run(words: list[str]) -> None:
    """Print FLOPs by part for one or several numbers of visual tokens, as a table or as JSON."""
    options, rest = split_options([word for word in words if word != "--json"], _OPTIONS)
    named = any(word.startswith("method=") for word in rest)
    text = whole_number("text", options["text"])
    config = compose_config(rest)
    if options["place"] not in ("before_projector", "after_projector"):
        raise ParbenchError(
            f"place={options['place']} is no place of reduction: use before_projector or after_projector"
        )
    from parbench.compute.predict import predict

    def reducer(count: int | None) -> Any:
        return build_reducer(config.method, config.budget if count is None else count) if named else None

    counts = as_list("tokens", options["tokens"])
    rows = [predict(config.model, reducer(count), count, text, options["place"]) for count in counts]
    if "--json" in words:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """A table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    from parbench.compute.flops import CONVENTION

    parts = ("vision", "projector", "reducer", "llm_prefill", "total")
    table = Table(title=f"{rows[0]['model']}, {rows[0]['text']} text tokens, TFLOP")
    for name in ("method", "visual tokens", *parts):
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        shown = ("not counted" if row[part] is None else f"{row[part] / 1e12:.4g}" for part in parts)
        table.add_row(row["method"], f"{row['tokens']:g}", *shown)
    console = Console()
    console.print(table)
    console.print(f"Up to the first token. {CONVENTION}.", style="dim", highlight=False)

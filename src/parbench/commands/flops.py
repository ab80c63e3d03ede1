"""``parbench flops``: what a model costs at given numbers of visual tokens, without weights."""

from __future__ import annotations

import json
from typing import Any

import yaml

from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError

_OPTIONS = {"tokens": "null", "text": "60", "place": "after_projector"}


def run(words: list[str]) -> None:
    """Print FLOPs by part for one or several numbers of visual tokens, as a table or as JSON."""
    options, rest, method = dict(_OPTIONS), [], ""
    for word in words:
        key, _, value = word.partition("=")
        if key in options:
            options[key] = value
        elif word != "--json":
            method = value if key == "method" else method
            rest.append(word)
    config = compose_config(rest)
    tokens, text = yaml.safe_load(options["tokens"]), yaml.safe_load(options["text"])
    if not isinstance(text, int) or text < 1:
        raise ParbenchError(f"text={options['text']} is no number of text tokens: use 1 or more")
    if options["place"] not in ("before_projector", "after_projector"):
        raise ParbenchError(
            f"place={options['place']} is no place of reduction: use before_projector or after_projector"
        )
    from parbench.compute.predict import predict

    def reducer(count: int | None) -> Any:
        return build_reducer(config.method, count) if method else None

    asked = tokens if isinstance(tokens, list) else [tokens]
    rows = [predict(config.model, reducer(count), count, text, options["place"]) for count in asked]
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

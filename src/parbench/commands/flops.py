"""``parbench flops``: what models and methods cost at given numbers of visual tokens, without weights."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from parbench.commands.options import as_list, split_options, whole_number
from parbench.commands.sweep import DEFAULT_BUDGETS
from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError, unknown
from parbench.sweep.grid import other_method

if TYPE_CHECKING:
    from parbench.reducers import Reducer

_log = logging.getLogger(__name__)

_OPTIONS = {
    "tokens": "",
    "text": "",
    "place": "after_projector",
    "methods": "",
    "models": "",
    "own": "false",
    "question": "",
    "system": "null",
    "claim": "",
}
_FLAGS = ("--json", "--convention")
_PLACES = ("before_projector", "after_projector")
_TEXT = "60"


def run(words: list[str]) -> None:
    """Print FLOPs by part, as tables or as JSON.

    Raises:
        ParbenchError: An option is wrong, or nothing that was asked for is possible.
    """
    options, rest = split_options([word for word in words if word not in _FLAGS], _OPTIONS)
    asked = _Asked(options, rest, "--convention" in words)
    if options["claim"]:
        found = list(claim(asked, options["claim"]))
        table = show_claim
    else:
        found = list(predicted(asked))
        table = show
    if "--json" in words:
        print(json.dumps(found, indent=2))
    else:
        table(found)


@dataclass(frozen=True)
class _Asked:
    """The command line.

    Attributes:
        options: The command's own.
        rest: Hydra's overrides.
        conventions: Whether other conventions are wanted too.
    """

    options: dict[str, str]
    rest: list[str]
    conventions: bool

    def __post_init__(self) -> None:
        if self.place not in _PLACES:
            raise ParbenchError(f"place={self.place} is no place of reduction: use before_projector or after_projector")
        if self.options["own"] not in ("true", "false"):
            raise ParbenchError(f"own={self.options['own']} is neither true nor false")
        heads = {"methods": ("method", "budget"), "claim": ("method", "budget"), "models": ("model",)}
        for option, groups in heads.items():
            if self.options[option] and (also := self._given(groups)):
                raise ParbenchError(f"{also} has no place beside {option}={self.options[option]}: leave one of them out")

    def _given(self, groups: tuple[str, ...]) -> str:
        """The first override of some groups or of their fields, if there is one."""
        heads = tuple(f"{group}{mark}" for group in groups for mark in "=.")
        return next((word for word in self.rest if word.lstrip("+~").startswith(heads)), "")

    @property
    def place(self) -> str:
        """Where reduction takes place if no method is named."""
        return self.options["place"]

    @property
    def system(self) -> int | None:
        """Prompt tokens before the image."""
        return None if self.options["system"] == "null" else whole_number("system", self.options["system"], 0)

    def texts(self, default: str) -> list[int]:
        """Lengths of prompts."""
        return [whole_number("text", str(value)) for value in as_list("text", self.options["text"] or default)]

    def several(self, group: str) -> list[str]:
        """The names in ``methods=`` or ``models=``.

        Raises:
            ParbenchError: One is not known.
        """
        found = [str(name) for name in as_list(f"{group}s", self.options[f"{group}s"])]
        found = names(group) if found == ["all"] else found
        for name in found:
            if name not in names(group):
                raise unknown(group, name, names(group))
        # What others are compared with comes first.
        return sorted(found, key=lambda name: name != "none")

    def settings(self) -> list[DictConfig]:
        """The configuration with each model."""
        if not self.options["models"]:
            return [compose_config(self.rest)]
        return [compose_config([*self.rest, f"model={name}"]) for name in self.several("model")]

    def counts(self) -> list[int | None]:
        """Numbers of visual tokens; None is a method's own budget."""
        default = DEFAULT_BUDGETS if self.options["methods"] else "null"
        return as_list("tokens", self.options["tokens"] or default)

    def reducers(self, config: DictConfig) -> Iterator[tuple[Any, int | None]]:
        """Each method at each number of tokens; those that drop nothing once."""
        if not self.options["methods"]:
            named = any(word.startswith("method=") for word in self.rest)
            for count in self.counts():
                yield build_reducer(config.method, config.budget if count is None else count) if named else None, count
            return
        for name in self.several("method"):
            method = other_method(name, self.rest)
            fixed = not build_reducer(method).takes_budget
            for count in [None] if fixed else self.counts():
                yield build_reducer(method, count), count


class _Model:
    """Predicts on one model; what a method's own work is counted with is made once."""

    def __init__(self, asked: _Asked, config: DictConfig) -> None:
        self.asked, self.config = asked, config

    @cached_property
    def own(self) -> Any:
        """Counts methods' own work."""
        from parbench.compute.method_overhead import QUESTION, OwnWork

        return OwnWork(self.config.model, self.asked.options["question"] or QUESTION)

    def row(self, reducer: Reducer, count: int | None, text: int, *, own: bool, conventions: bool) -> dict[str, Any]:
        """A predicted row, with the other conventions where wanted."""
        from parbench.compute.predict import other_counts, predict

        asked, model = self.asked, self.config.model
        found = predict(model, reducer, count, text, asked.place, self.own if own else None, asked.system)
        if conventions:
            found["conventions"] = other_counts(model, reducer, found, asked.place, asked.system)
        return found


def predicted(asked: _Asked) -> Iterator[dict[str, Any]]:
    """Rows for every model, prompt length, method and number of tokens.

    In a list of methods, what a model cannot have is left out with a word.

    Raises:
        ParbenchError: No method can have any of the numbers.
    """
    own, refused, left = asked.options["own"] == "true", None, 0
    for config in asked.settings():
        model = _Model(asked, config)
        for text in asked.texts(_TEXT):
            for reducer, count in asked.reducers(config):
                try:
                    found = model.row(reducer, count, text, own=own, conventions=asked.conventions)
                except ParbenchError as error:
                    if not asked.options["methods"]:
                        raise
                    refused = error
                    _log.warning(f"left out: {error}")
                    continue
                left += count is not None
                yield found
    if refused and not left:
        raise refused


def claim(asked: _Asked, name: str) -> Iterator[dict[str, Any]]:
    """What a method saves under each way of counting, for several lengths of the prompt."""
    from parbench.compute.savings import TEXTS, TOKENS, savings

    if name not in names("method"):
        raise unknown("method", name, names("method"))
    counts = as_list("tokens", asked.options["tokens"] or str(TOKENS))
    for config in asked.settings():
        model = _Model(asked, config)
        method, plain = other_method(name, asked.rest), build_reducer(other_method("none", asked.rest))
        for text in asked.texts(",".join(map(str, TEXTS))):
            full = model.row(plain, None, text, own=True, conventions=True)
            for count in counts:
                reduced = model.row(build_reducer(method, count), count, text, own=True, conventions=True)
                yield from savings(full, reduced)


def show(rows: list[dict[str, Any]]) -> None:
    """A table for each model and prompt length on the terminal."""
    from parbench.compute.flops import CONVENTION

    parts = ["vision", "projector", "reducer", "llm_prefill", "total"]
    others = list(rows[0].get("conventions", ()))
    console = _console()
    for model, text in dict.fromkeys((row["model"], row["text"]) for row in rows):
        shown = []
        for row in (row for row in rows if (row["model"], row["text"]) == (model, text)):
            values = [row[part] for part in parts] + [row["conventions"][name] for name in others]
            figures = ("not counted" if value is None else f"{value / 1e12:.4g}" for value in values)
            shown.append([row["method"], f"{row['tokens']:g}", *figures])
        heads = ["method", "visual tokens", *parts, *others]
        console.print(_table(f"{model}, {text} text tokens, TFLOP", heads, shown))
    console.print(f"Up to the first token. {CONVENTION}.", style="dim", highlight=False)
    if others:
        said = "From true on: the LLM alone by each convention, in T multiply-adds but for true. See docs/flops.md."
        console.print(said, style="dim", highlight=False)


def show_claim(rows: list[dict[str, Any]]) -> None:
    """A table for each model and number of tokens on the terminal."""
    console = _console()
    for model, method, tokens in dict.fromkeys((row["model"], row["method"], row["tokens"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["method"], row["tokens"]) == (model, method, tokens)]
        counts = list(dict.fromkeys(row["count"] for row in mine))
        shown = [
            [
                row["count"],
                str(row["text"]),
                f"{row['full'] / 1e12:.4g}",
                f"{row['reduced'] / 1e12:.4g}",
                f"{100 * row['saved']:.1f} %",
            ]
            for row in sorted(mine, key=lambda row: counts.index(row["count"]))
        ]
        heads = ["count", "text tokens", "unreduced", f"{tokens} tokens", "saved"]
        console.print(_table(f"{model}, {method}", heads, shown))
    said = (
        "Up to the first token. llm: ours, TFLOP by fvcore; everything: with tower, projector, text tower and the method's "
        "own work; the others: the LLM alone by each convention, in T multiply-adds. See docs/flops.md."
    )
    console.print(said, style="dim", highlight=False)


def _console() -> Any:
    from rich.console import Console

    # Where the output is no terminal, rich takes 80 columns, which cuts figures off.
    return Console() if sys.stdout.isatty() else Console(width=140)


def _table(title: str, heads: list[str], rows: list[list[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for head in heads:
        left = head in ("method", "count")
        table.add_column(head.replace(" ", "\n").replace("_", "\n"), justify="left" if left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table

"""``parbench flops``: FLOPs of models and methods at given numbers of visual tokens, without weights."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from parbench.commands.parsing import Given
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.progress import counted, working
from parbench.sweep.grid import other_method

if TYPE_CHECKING:
    from parbench.engine.plan import TokenPlan
    from parbench.reducers import Reducer

_log = logging.getLogger(__name__)

_TEXT = [60]
_TOKENS = [192, 128, 64]


def run(given: Given) -> None:
    """Print FLOPs by part of the model, as tables or as JSON.

    Raises:
        ParbenchError: An option is wrong, or none of the methods can have any of the numbers of tokens.
    """
    asked = _Asked(given)
    if given["claim"]:
        rows, table = claim(asked, given["claim"]), show_claim
    else:
        rows, table = predicted(asked), show
    with working("counting"):
        found = list(rows)
    if given["published"]:
        found = _with_published(found)
    if given["json"]:
        print(json.dumps(found, indent=2))
    else:
        table(found)


@dataclass(frozen=True)
class _Asked:
    """The command line, with its defaults.

    Attributes:
        given: The parsed arguments.

    Raises:
        ParbenchError: An override contradicts an option.
    """

    given: Given

    def __post_init__(self) -> None:
        heads = {"methods": ("method", "budget"), "claim": ("method", "budget"), "models": ("model",)}
        for option, groups in heads.items():
            if self.given[option] and (also := self._override(groups)):
                raise ParbenchError(f"{also} cannot be combined with {self.given.typed(option)[0]}: leave one of them out")

        if self.given["claim"] and self.given["published"]:
            raise ParbenchError("published=true has no place beside claim: leave one of them out")

    def _override(self, groups: tuple[str, ...]) -> str:
        """The first override of one of the groups or of a field of theirs; empty if there is none."""
        heads = tuple(f"{group}{mark}" for group in groups for mark in "=.")
        return next((word for word in self.rest if word.lstrip("+~").startswith(heads)), "")

    @property
    def rest(self) -> list[str]:
        """The Hydra overrides."""
        return self.given.rest

    def texts(self, usual: Sequence[int]) -> Sequence[int]:
        """Numbers of text tokens; ``usual`` if none are given."""
        return self.given["text"] or usual

    def settings(self) -> list[DictConfig]:
        """The configuration for each model."""
        if not self.given["models"]:
            return [compose_config(self.rest)]
        return [compose_config([*self.rest, f"model={name}"]) for name in self.given["models"]]

    def counts(self) -> Sequence[int | float | None]:
        """Numbers of visual tokens, or shares of the image's; None stands for the method's configured budget."""
        return self.given["tokens"] or (_TOKENS if self.given["methods"] else [None])

    def reducers(self, config: DictConfig) -> Iterator[tuple[Any, int | float | None]]:
        """Each method with each number of tokens; a method that takes no budget appears once."""
        if not self.given["methods"]:
            named = any(word.startswith("method=") for word in self.rest)
            for count in self.counts():
                yield build_reducer(config.method, config.budget if count is None else count) if named else None, count
            return
        # None comes first, since the others are compared with it.
        for name in sorted(self.given["methods"], key=lambda name: name != "none"):
            method = other_method(name, self.rest)
            fixed = not build_reducer(method).takes_budget
            for count in [None] if fixed else self.counts():
                yield build_reducer(method, count), count


class _Model:
    """Predictions for one model. The counter of methods' overhead is built once."""

    def __init__(self, asked: _Asked, config: DictConfig) -> None:
        self.asked, self.config = asked, config

    @cached_property
    def own(self) -> Any:
        """Counts the overhead of methods (an ``OwnWork``)."""
        from parbench.compute.method_overhead import QUESTION, OwnWork

        return OwnWork(self.config.model, self.asked.given["question"] or QUESTION)

    def _work(self, reducer: Reducer, plan: TokenPlan, after: int, system: int) -> int:
        """FLOPs of a method's own work; see :class:`parbench.compute.predict.OwnWork`."""
        work: int = self.own(reducer, plan, after, system)
        return work

    def row(self, reducer: Reducer, count: float | None, text: int, *, own: bool, conventions: bool) -> dict[str, Any]:
        """A predicted row.

        Args:
            reducer: The method; None for any method without overhead.
            count: Number of visual tokens, or a share of the image's.
            text: Number of text tokens.
            own: Whether to include the method's overhead.
            conventions: Whether to add counts by other conventions.

        Raises:
            ParbenchError: The number of tokens is impossible.
        """
        from parbench.compute.predict import Prompt, other_counts, predict
        from parbench.models.lora import named

        model: Any = named(OmegaConf.to_container(self.config.model, resolve=True))  # type: ignore[arg-type]
        given = self.asked.given
        prompt, place = Prompt(text, given["system"], given["image"], given["frames"]), given["place"]
        found = predict(model, reducer, count, prompt, place, self._work if own else None)
        if conventions:
            found["conventions"] = other_counts(model, reducer, found, prompt, place)
        return found


def predicted(asked: _Asked) -> Iterator[dict[str, Any]]:
    """Rows for every model, number of text tokens, method and number of visual tokens.

    With a list of methods, impossible combinations are skipped with a warning.

    Raises:
        ParbenchError: A combination is impossible, and there is no list of methods, or all combinations of it are impossible.
    """
    own, refused, said, left = asked.given["own"], None, set[str](), 0
    for config in asked.settings():
        model = _Model(asked, config)
        for text in asked.texts(_TEXT):
            wanted = list(asked.reducers(config))
            for reducer, count in counted(wanted, f"{config.model.name}, {text} text tokens", "row", len(wanted)):
                try:
                    found = model.row(reducer, count, text, own=own, conventions=asked.given["convention"])
                except ParbenchError as error:
                    if not asked.given["methods"]:
                        raise
                    refused = error
                    # A method that the model cannot have is refused with each number of tokens.
                    if str(error) not in said:
                        _log.warning(f"skipped: {error}")
                    said.add(str(error))
                    continue
                left += count is not None
                yield found
    if refused and not left:
        raise refused


def claim(asked: _Asked, name: str) -> Iterator[dict[str, Any]]:
    """The FLOPs that a method saves under each counting convention, for several numbers of text tokens.

    Raises:
        ParbenchError: The method cannot have one of the numbers of tokens.
    """
    from parbench.compute.savings import TEXTS, TOKENS, savings

    counts = asked.given["tokens"] or [TOKENS]
    for config in asked.settings():
        model = _Model(asked, config)
        method, plain = other_method(name, asked.rest), build_reducer(other_method("none", asked.rest))
        for text in asked.texts(TEXTS):
            reduced = [model.row(build_reducer(method, count), count, text, own=True, conventions=True) for count in counts]
            full = model.row(plain, None, text, own=True, conventions=True)
            for one in reduced:
                yield from savings(full, one)


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table for each model and number of text tokens."""
    from parbench.compute.flops import CONVENTION
    from parbench.tables.published_flops import span_text

    parts = ["vision", "projector", "reducer", "llm_prefill", "total"]
    others, published = list(rows[0].get("conventions", ())), "published" in rows[0]
    console = _console()
    for model, image, text in dict.fromkeys(_heading(row) for row in rows):
        shown = []
        for row in (row for row in rows if _heading(row) == (model, image, text)):
            values = [row[part] for part in parts] + [row["conventions"][name] for name in others]
            figures = ("not counted" if value is None else f"{value / 1e12:.4g}" for value in values)
            printed = [span_text(row["published"])] if published else []
            shown.append([row["method"], f"{row['tokens']:g}", *figures, *printed])
        heads = ["method", "visual tokens", *parts, *others, *(["published"] if published else [])]
        console.print(_table(f"{model}{image}, {text} text tokens, TFLOP", heads, shown))
    console.print(f"Up to the first token. {CONVENTION}.", style="dim", highlight=False)
    if others:
        said = "From true on: the LLM alone under each convention, in 10^12 multiply-adds; true is in TFLOP. See docs/flops.md."
        console.print(said, style="dim", highlight=False)
    if published:
        said = "published: the smallest and largest figure in papers, in T, each by its own convention. See docs/flops.md."
        console.print(said, style="dim", highlight=False)


def _with_published(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with ``published``: what papers print for the same."""
    from parbench.tables import published
    from parbench.tables.published_flops import printed

    numbers = published.read()
    return [{**row, "published": printed(numbers, row)} for row in rows]


def _heading(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """What rows of one table share: model, image if it matters, text tokens."""
    shown = f"{row['frames']} frames of" if "frames" in row else "image"
    image = f", {shown} {row['image']} ({row['visual']} visual tokens)" if "image" in row else ""
    return row["model"], image, row["text"]


def show_claim(rows: list[dict[str, Any]]) -> None:
    """Print a table for each model and number of visual tokens."""
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
        "Up to the first token. llm: the LLM in TFLOP, as fvcore counts; everything: llm, vision tower, projector, text tower and "
        "the method's overhead; the others: the LLM alone under each convention, in 10^12 multiply-adds. See docs/flops.md."
    )
    console.print(said, style="dim", highlight=False)


def _console() -> Any:
    from rich.console import Console

    # If the output is not a terminal, rich assumes 80 columns, which would cut off numbers.
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

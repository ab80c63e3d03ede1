"""Generates ``docs/methods.md`` and the README's table of methods from the classes."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_class
from omegaconf import OmegaConf

from parbench.config import compose_config, names
from parbench.parity.case import load_cases
from parbench.parity.finding import parity_of
from parbench.reducers.composed import Composed
from readme_part import filled

_COMPOSED = "composed"
# In the order in which the data pass the sites.
_SITES = {
    "pixels": "before the vision tower",
    "tower": "inside the vision tower",
    "tokens": "between vision tower and LLM",
    "feedforward": "before the LLM, and in its feed-forward part",
    _COMPOSED: "before and inside the LLM",
    "layers": "inside the LLM",
    "mask": "inside the LLM, by masks",
    "keys": "in the attention of the LLM",
}
_INTRODUCTION = """# Methods

Generated from the classes by `python scripts/write_methods.py`; a test fails if this page is out of date. The docstring of each
class is quoted below. It describes what the method does, where paper, official release and this implementation differ, and what a
budget means.

* *Parity*: recorded outputs of the official code, reproduced by the same class that evaluations use (indices and order exactly,
  float32 values within 1e-4 relative). The count is that of the cases in `tests/golden`; `parbench parity DIR` compares any folder
  of that format.
* *Positions*: `compact` renumbers position ids consecutively, `keep` retains the original ones.
* *Adaptive*: without a budget, or with a calibrated one, the number of tokens depends on the image; tables show mean and standard
  deviation.
* Layers, heads and lists that a paper gives for LLaVA-1.5 are scaled to a model's depth, heads and patches.

## Two methods in one

`a+b` is a method too: a acts before the LLM (or in the vision tower, or on the pixels), b inside it, on the tokens that a lets
in. It works wherever a method's name does:

    parbench eval method=visionzip+pyramiddrop budget=64
    parbench sweep methods=[visionzip+fastv,tome+pyramiddrop] budgets=[128,64]
    parbench eval method=visionzip+fastv method.before.budget=128 method.inside.layer=4

* `method.before.FIELD` and `method.inside.FIELD` are the fields of the two. In Python: `parbench.method("visionzip+fastv",
  budget=64, before={"budget": 128}, inside={"layer": 4})`.
* `budget` is the average over the layers of the LLM. By default a lets in one and a half times as many tokens (96 for 64, as
  VScan does), and b is solved for the rest. `method.before.budget` replaces that. `method.inside.budget` is the same average as
  `budget`. With `method.budget=null` and a budget of a alone, b follows its own rule.
* A footnote of the table says how many tokens a lets in; `views=[stages]` shows what is left after a and after each layer of b.
* a has to keep exactly its budget for each image, so thresholds that are calibrated for a mean are refused; PAR sets its
  threshold per image.
* `compact` and `keep` are each part's own: those of a when tokens enter the LLM, those of b when it drops some.

A YAML of your own can give such a pair a name: [Adding a method](adding-a-method.md#a-method-of-two-others).

## Table
"""


_LEARNED = (
    "These methods need training or a trained checkpoint. Named are parts that run without, and those that this project trained "
    "for `llava-tiny` ([Learned methods](learned.md))."
)
BEGIN, END = "<!-- methods: written by scripts/write_methods.py -->", "<!-- /methods -->"


def in_readme(text: str) -> str:
    """The text of the README with an up-to-date table of methods: a row for each site, and one for controls.

    Raises:
        ValueError: The README lacks the marks.
    """
    return filled(text, BEGIN, END, _by_site())


def _by_site() -> str:
    classes = _classes()
    rows = ["| where | methods |", "|---|---|"]
    for site, said in _SITES.items():
        those = [_linked(name, kind) for name, kind in classes.items() if _site(kind) == site and not kind.control]
        rows += [f"| {said} | {', '.join(those)} |"] if those else []
    controls = [f"[`{name}`](docs/methods.md#{name})" for name, kind in classes.items() if kind.control]
    return "\n".join([*rows, f"| controls | {', '.join(controls)} |"])


def _site(kind: Any) -> str:
    return _COMPOSED if issubclass(kind, Composed) else str(kind.site)


def _linked(name: str, kind: Any) -> str:
    number = kind.paper.removeprefix("arXiv ")
    return f"[`{name}`](docs/methods.md#{name}) ([{number}](https://arxiv.org/abs/{number}))"


def _classes() -> dict[str, Any]:
    return {name: get_class(compose_config([f"method={name}"]).method["_target_"]) for name in names("method", outside=False)}


def methods_page(golden: Path) -> str:
    """The text of ``docs/methods.md``.

    Args:
        golden: The folder of recorded cases.
    """
    cases = _cases(golden)
    classes = _classes()
    parts = [_INTRODUCTION, "| method | | paper | site | prompt-aware | adaptive | positions | parity |"]
    parts.append("|---|---|---|---|---|---|---|---|")
    for control in (False, True):
        for name, kind in classes.items():
            if kind.control == control:
                parts.append(_row(name, kind, cases[name]))
    parts += ["", "## Learned reduction", "", _LEARNED, ""]
    parts += ["| method | arXiv | what is trained | available code and checkpoints |", "|---|---|---|---|"]
    learned = yaml.safe_load((Path(__file__).parent / "learned.yaml").read_text(encoding="utf-8"))
    parts += [f"| {row['name']} | {row['arxiv']} | {row['trained']} | {row['loaded']} |" for row in learned]
    for name, kind in classes.items():
        parts += ["", *_section(name, kind, cases[name])]
    return "\n".join(parts) + "\n"


def _cases(golden: Path) -> Counter[str]:
    """The number of recorded cases of each method."""
    pairs = ((parity_of(case.method), case) for case in load_cases(golden))
    return Counter(parity.method(case) for parity, case in pairs if parity)


def _row(name: str, kind: Any, cases: int) -> str:
    config = compose_config([f"method={name}"]).method
    number = kind.paper.removeprefix("arXiv ")
    cells = [
        f"[`{name}`](#{name})",
        kind.title,
        f"[{number}](https://arxiv.org/abs/{number})" if number else "control",
        _SITES[_site(kind)] + (f" ({config.place.replace('_', ' ')})" if "place" in config else ""),
        "yes" if kind.prompt_aware else "no",
        "yes" if kind.adaptive and name != "none" else "no",
        str(config.get("positions", "")),
        f"{cases} cases" if cases else "",
    ]
    return f"| {' | '.join(cells)} |"


def _section(name: str, kind: Any, cases: int) -> list[str]:
    text = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")[0]
    source = (inspect.getdoc(inspect.getmodule(kind)) or "").splitlines()[0]
    config: dict[str, Any] = OmegaConf.to_container(compose_config([f"method={name}"]).method)  # type: ignore[assignment]
    said: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        said |= _attributes((inspect.getdoc(base) or "").partition("\n\nAttributes:\n")[2])
    lines = [f"## {name}", "", f"*{source}*", "", _plain(text)]
    rows = []
    for key, default in config.items():
        if key in ("_target_", "name"):
            continue
        if isinstance(default, dict):
            rows += _fields_of_part(key, default)
            continue
        rows.append(_field(key, default, said))
    lines += ["", "| field | default | |", "|---|---|---|", *rows]
    if cases:
        lines += ["", f"Parity: {cases} recorded cases of the official code."]
    return lines


def _field(key: str, default: Any, said: Mapping[str, str], prefix: str = "") -> str:
    value = "null" if default is None else json.dumps(default)
    return f"| `{prefix}{key}` | `{value}` | {_plain(said.get(key, _COMMON.get(key, '')))} |"


def _fields_of_part(role: str, config: Mapping[str, Any]) -> list[str]:
    """The rows of a composed method's part, whose own class describes its fields."""
    said: dict[str, str] = {}
    for base in reversed(get_class(config["_target_"]).__mro__):
        said |= _attributes((inspect.getdoc(base) or "").partition("\n\nAttributes:\n")[2])
    return [_field(key, value, said, f"{role}.") for key, value in config.items() if key not in ("_target_", "name")]


_COMMON = {
    "budget": "A number of tokens, a ratio, or null for none (adaptive).",
    "place": "Before or after the projector.",
    "positions": "Position ids of the kept tokens.",
    "seed": "Seed of the random choice.",
}


def _attributes(text: str) -> dict[str, str]:
    """The fields of an ``Attributes:`` section and their descriptions."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    ?\S)(?!     )", "\n" + text.rstrip()):
        keys, _, said = entry.strip().partition(": ")
        for key in keys.split(", "):
            found[key] = " ".join(said.split())
    return found


def _plain(text: str) -> str:
    """The text with reStructuredText marks as Markdown; ``|`` is escaped, as it would end a table cell."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text).replace("``", "`").replace("|", "\\|")

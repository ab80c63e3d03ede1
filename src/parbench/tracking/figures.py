"""Two figures of one run: accuracy by skill, and visual tokens at each layer of the LLM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from parbench.results.record import RunMetrics, SampleRecord

_BAR, _LINE = "#56B4E9", "#0072B2"


def figures(folder: Path, lines: Iterable[SampleRecord], metrics: RunMetrics, title: str) -> dict[str, Path]:
    """Draw the figures of a run into a folder; returns their files by name."""
    from matplotlib.figure import Figure

    layers, skills = by_layer(lines), metrics.skills
    wanted: dict[str, Callable[[Any], None]] = {}
    if skills:
        wanted["skills"] = lambda axis: _skills(axis, skills)
    if layers:
        wanted["layers"] = lambda axis: _layers(axis, layers)
    drawn: dict[str, Path] = {}
    for name, draw in wanted.items():
        figure = Figure(figsize=(6, 3.6), dpi=120)
        axis = figure.subplots()
        draw(axis)
        axis.set_title(title, fontsize=10, parse_math=False)
        figure.tight_layout()
        drawn[name] = folder / f"figure-{name}.png"
        figure.savefig(drawn[name], metadata={"Software": None})
    return drawn


def by_layer(lines: Iterable[SampleRecord]) -> list[float]:
    """Mean number of visual tokens per sample at each layer of the LLM, from the run-length encoded [count, layers] pairs."""
    counts = [[count for count, layers in line.visual for _ in range(layers)] for line in lines if line.visual]
    return [sum(column) / len(column) for column in zip(*counts, strict=True)]


def _skills(axis: Any, values: Mapping[str, float]) -> None:
    bars = axis.barh(list(values), list(values.values()), color=_BAR)
    axis.bar_label(bars, labels=[f"{value:.1%}" for value in values.values()], padding=3, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15)
    axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_xlabel("accuracy")


def _layers(axis: Any, values: list[float]) -> None:
    axis.step(range(len(values)), values, where="mid", color=_LINE)
    axis.set_ylim(0, max(values) * 1.1)
    axis.set_xlabel("layer of the LLM")
    axis.set_ylabel("visual tokens")

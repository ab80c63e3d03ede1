"""Writes docs/which_method.md: which methods some runs recommend, by budget, skill and measured time.

    python scripts/write_which_method.py results/reference/scenes results/reference/bench-llava-tiny-cpu.json

Any folders of runs will do, of several models too, and files of parbench bench for their times; FIELD=VALUE selects runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from page_text import ROOT, estimated, in_tokens, listed, made_by, parser, runs_of, table, write
from parbench.errors import ParbenchError
from parbench.figures.times import Times, is_bench, read_times, timed
from parbench.results.loading import Results
from parbench.tables.choice import Choice, choices
from parbench.tables.measured import Measured, measured

# So many names are listed in a cell; more are counted.
_NAMED = 6


@dataclass(frozen=True)
class Setting:
    """Runs of one model on one data set, with what is best there.

    Attributes:
        of: The runs.
        chosen: The first methods at each budget with at least two methods, over all questions and by skill.
        times: Measured times, one entry for each batch size of each file.
    """

    of: Measured
    chosen: dict[float, list[Choice]]
    times: tuple[Times, ...]

    def name(self, place: int) -> str:
        """A method, as its rows are called without their budget."""
        return str(self.of.runs["series"].iloc[place])

    def names(self, places: Sequence[int]) -> list[str]:
        """Several methods."""
        return [self.name(place) for place in places]

    def milliseconds(self, times: Times) -> dict[int, tuple[float, float, float]]:
        """The time to the first token of each run that was timed, by its place: median, lower and upper quartile."""
        found = timed(self.of, times)
        places = {run: place for place, run in enumerate(self.of.runs["run_id"])}
        spent = zip(found["run_id"], found["x"], found["x_low"], found["x_high"], strict=True)
        return {places[run]: (float(median), float(low), float(high)) for run, median, low, high in spent}


def arguments() -> argparse.ArgumentParser:
    """The script's parser."""
    return parser(__doc__, ROOT / "docs" / "which_method.md")


def page(words: Sequence[str]) -> str:
    """The page for the words of a command line.

    Raises:
        ParbenchError: No setting has two methods at a budget, or a file has times of another model.
    """
    given = arguments().parse_args(words)
    files = [Path(word) for word in given.runs if Path(word).is_file() and is_bench(Path(word))]
    results = runs_of([word for word in given.runs if Path(word) not in files])
    settings = [_setting(part, files) for part in _parts(results)]
    settings = [setting for setting in settings if setting.chosen]
    if not settings:
        raise ParbenchError("no budget has two methods: nothing can be recommended from these runs")
    parts = [*_head(settings, words), *(text for setting in settings for text in _section(setting))]
    return "\n\n".join([*parts, *(_across(settings) if len(settings) > 1 else [])]) + "\n"


def _parts(results: Results) -> list[Results]:
    """The runs of each model on each data set."""
    groups = results.runs.groupby(["model", "dataset", "dataset.split"], sort=False)
    return [replace(results, runs=runs) for _, runs in groups]


def _setting(results: Results, files: Sequence[Path]) -> Setting:
    of = measured(results)
    chosen = {budget: choices(of, budget) for budget in of.budgets if len(of.at(budget, trained=False)) > 1}
    model = of.runs["model"].iloc[0]
    return Setting(of, chosen, tuple(times for path in files if _model(path) == model for times in read_times(path, of)))


def _model(path: Path) -> str:
    return str(pd.read_json(path, typ="series")["settings"]["model"])


def _head(settings: Sequence[Setting], words: Sequence[str]) -> list[str]:
    return [
        "# Which method should I use?",
        made_by(__file__, words, *(setting.of.runs for setting in settings)),
        "It depends on budget, skill and what is to be saved. *First* are all methods of a budget than which no other is "
        "better, by a paired difference that holds after Holm's correction over all pairs of that budget. Between methods that "
        "are first, these questions show no difference: choose among them by time, or by what your code already has. Controls "
        "take part, and a control among the first means that the methods beside it have shown nothing there. `oracle`, which "
        "is told where the answer can be seen, and [learned methods](learned.md) do not take part. Methods are compared at the "
        "budget that was asked for. Where one method is compared with the others, as in [The claim of PAR](claim.md), there "
        "are fewer comparisons, and more can be told apart.",
        "A small model on generated pictures says how methods work, not how a 7B model will score on your data. Before you "
        "rely on it: `parbench sweep model=YOURS dataset=YOURS`, then this script on those runs.",
    ]


def _section(setting: Setting) -> list[str]:
    of = setting.of
    parts = [f"## {of.about[0].upper()}{of.about[1:]}", "\n".join(_short(setting, budget) for budget in setting.chosen)]
    skilled = [budget for budget, found in setting.chosen.items() if len(found) > 1]
    parts += (
        [f"### By skill, on {of.runs['model'].iloc[0]}", *(_by_skill(setting, budget) for budget in skilled)] if skilled else []
    )
    clocked = [text for budget in setting.chosen for text in _by_time(setting, budget)]
    if not clocked:
        return [*parts, "No times were measured for these runs: `parbench bench` does, and this script takes its files."]
    return [*parts, f"### By measured time, on {of.runs['model'].iloc[0]}", _about_time(setting), *clocked]


def _short(setting: Setting, budget: float) -> str:
    """What to use at a budget, in a line."""
    overall = setting.chosen[budget][0]
    best, tied = overall.first[0], overall.first[1:]
    score, measure = setting.of.score, setting.of.measure
    said = f"`{setting.name(best)}` is the most accurate ({estimated(score.of(best), measure.scale)})"
    said += f"; {listed(setting.names(tied))} cannot be told from it" if tied else ", and better than every other"
    if overall.others:
        gap = score.against(best, overall.others[0])
        said += f". The next is `{setting.name(overall.others[0])}`, {estimated(gap, measure.scale)} behind"
    fastest = [
        f"{listed(setting.names(places))} (batch {times.batch})"
        for times in setting.times
        if (places := _fastest(setting.milliseconds(times), overall))
    ]
    said += f". Fastest of the first, as measured: {', '.join(fastest)}" if fastest and tied else ""
    return f"* **At {in_tokens(budget)}**, {said}."


def _fastest(spent: dict[int, tuple[float, float, float]], choice: Choice) -> list[int]:
    """Of the first methods the fastest, and those whose quartiles meet its quartiles; none if they were not timed."""
    there = sorted((place for place in choice.first if place in spent), key=lambda place: spent[place])
    return [place for place in there if spent[place][1] <= spent[there[0]][2]]


def _by_skill(setting: Setting, budget: float) -> str:
    rows = []
    for choice in setting.chosen[budget]:
        best = choice.best
        scale = setting.of.measure.scale if not choice.skill else 100
        first = setting.names(choice.first)
        more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
        shown = ", ".join(f"`{name}`" for name in first[:_NAMED]) + more
        counted = f"{len(first)} of {len(first) + len(choice.others)}"
        rows.append(
            [choice.skill or "all questions", shown, counted, f"`{setting.name(best)}`", estimated(choice.score.of(best), scale)]
        )
    return f"At {in_tokens(budget)}:\n\n" + table(["skill", "first", "how many", "most accurate", "its accuracy %"], rows, 2)


def _about_time(setting: Setting) -> str:
    devices = ", ".join(dict.fromkeys(f"{times.device}" for times in setting.times))
    return (
        f"Median time from pixels to the first token, with quartiles, on {devices} ([Time and memory](performance.md)). Listed "
        "are the first methods and those on the frontier: no timed method of the budget is at least as accurate in less time, "
        "by the figures as they are. `none` is without reduction. The table above says which of these accuracies can be told "
        "apart; times whose quartiles meet cannot."
    )


def _by_time(setting: Setting, budget: float) -> list[str]:
    """The table of a budget; none if nothing was timed there."""
    overall = setting.chosen[budget][0]
    spent = [setting.milliseconds(times) for times in setting.times]
    if not any(place in one for one in spent for place in (*overall.first, *overall.others)):
        return []
    score, runs = setting.of.score, setting.of.runs
    rows = []
    for place in [*np.flatnonzero(runs["method"] == "none")[:1].tolist(), *overall.first, *overall.others]:
        fronts = [str(times.batch) for times, one in zip(setting.times, spent, strict=True) if _on_front(place, one, overall)]
        unreduced = runs["method"].iloc[place] == "none"
        if not (unreduced or place in overall.first or fronts):
            continue
        clocks = ["{:.0f} ({:.0f}–{:.0f})".format(*one[place]) if place in one else "–" for one in spent]
        cells = [f"`{setting.name(place)}`", "" if unreduced else "yes" if place in overall.first else "no"]
        cells += [estimated(score.of(place), setting.of.measure.scale), f"{runs['flops_prefill'].iloc[place] / 1e9:.2f}", *clocks]
        rows.append([*cells, "" if unreduced else ", ".join(fronts)])
    columns = [f"ms, batch {times.batch}" for times in setting.times]
    percent = " %" if setting.of.measure.scale == 100 else ""
    header = ["method", "first", f"{setting.of.measure.title}{percent}", "GFLOP", *columns, "on the frontier, batch"]
    return [f"At {in_tokens(budget)}:\n\n" + table(header, rows, 2)]


def _on_front(place: int, spent: dict[int, tuple[float, float, float]], choice: Choice) -> bool:
    """Whether no other timed run of the budget is at least as accurate in less time."""
    point = choice.score.point
    rivals = [other for other in (*choice.first, *choice.others) if other in spent and other != place]
    return place in spent and not any(point[other] >= point[place] and spent[other][0] < spent[place][0] for other in rivals)


def _across(settings: Sequence[Setting]) -> list[str]:
    """The methods that are first everywhere, by budget."""
    rows = []
    for budget in sorted({budget for setting in settings for budget in setting.chosen}, reverse=True):
        there = [setting for setting in settings if budget in setting.chosen]
        if len(there) < 2:
            continue
        firsts = [set(setting.names(setting.chosen[budget][0].first)) for setting in there]
        everywhere = [name for name in there[0].names(there[0].chosen[budget][0].first) if all(name in first for first in firsts)]
        rows.append([f"{budget:g}", str(len(there)), listed(everywhere)])
    return ["## In all settings", table(["budget", "settings", "first in all"], rows)] if rows else []


def main(words: Sequence[str] | None = None) -> None:
    """Write the page."""
    write(arguments(), page, words)


if __name__ == "__main__":
    main()

"""Compares a finished run with others, question by question.

    python scripts/compare_runs.py results/runs/0123456789abcdef results/runs/*
    python scripts/compare_runs.py results/runs/0123456789abcdef results/runs/* --models      # adapted ones too

For each other run of the same model, data set and limit, prints the accuracy of the first run minus its accuracy, with the 95 %
interval of docs/statistics.md. `parbench table` compares only with no reduction and the controls. This script compares any runs,
also of different versions of the code.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from parbench.results import load
from parbench.results.comparable import surroundings
from parbench.statistics.answers import align
from parbench.statistics.bootstrap import resample
from parbench.statistics.measures import accuracy

_SAME = ("limit", "dataset")
_SAME_MODEL = ("model", "weights")


def main() -> None:
    """Parse the command line, compare the runs, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    parser.add_argument("--models", action="store_true", help="compare with runs of other models too")
    given = parser.parse_args()
    [name] = load(given.run, columns=[]).runs["run_id"]
    results = load([given.run, *(path for path in given.others if path.is_dir())], columns=["image_id", "score"])
    runs = results.runs.set_index("run_id", drop=False)

    fixed = _SAME if given.models else _SAME + _SAME_MODEL

    def same(run: str) -> dict[str, str]:
        fields = surroundings(runs.loc[run, "identity"])
        return {key: value for key, value in fields.items() if key.partition(".")[0] in fixed}

    def label(run: str) -> str:
        return f"{runs.loc[run, 'model']}, {runs.loc[run, 'label']}" if given.models else str(runs.loc[run, "label"])

    alike = [run for run in runs["run_id"] if same(run) == same(name)]
    answers = align(results.samples, alike)
    [found] = resample([accuracy(answers)])
    mine = alike.index(name)
    about = runs.loc[name]
    print(f"{label(name)}: {100 * about['accuracy']:.1f} % at {about['tokens_mean']:.1f} tokens, {about['n']} questions")
    print("\n| against | visual tokens | accuracy | difference | 95 % interval |\n|---|---:|---:|---:|---:|")
    for place in sorted(range(len(alike)), key=lambda place: -found.point[place]):
        if place == mine:
            continue
        other, difference = runs.loc[alike[place]], found.against(mine, place)
        low, high = difference.interval()
        interval = "none: the same score for every answer" if low != low else f"{100 * low:+.1f} to {100 * high:+.1f}"
        figures = f"{other['tokens_mean']:.1f} | {100 * other['accuracy']:.1f} % | {100 * difference.point:+.1f}"
        print(f"| {label(alike[place])} | {figures} | {interval} |")


if __name__ == "__main__":
    main()

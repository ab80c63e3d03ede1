"""Compares finished runs with one of them, question by question.

    python scripts/compare_runs.py results/runs/0123456789abcdef results/runs/*

Prints, for each other run of the same model, data set and limit, the first one's accuracy minus its own, with a 95 % interval from
a paired bootstrap over images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from parbench.statistics.paired import paired_difference

_SAME = ("model", "weights", "dataset", "limit")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return (
        json.loads((folder / "metrics.json").read_text()),
        json.loads((folder / "provenance.json").read_text()),
        lines,
    )


def main() -> None:
    """Parse the command line, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    arguments = parser.parse_args()
    metrics, identity, lines = _read(arguments.run)
    rows = []
    for folder in arguments.others:
        if folder.resolve() == arguments.run.resolve() or not (folder / "metrics.json").exists():
            continue
        theirs, other, samples = _read(folder)
        if all(other[key] == identity[key] for key in _SAME):
            found = paired_difference(lines, samples)
            name = f"{theirs['method']}" + (f" @{theirs['budget']}" if theirs["budget"] else "")
            rows.append((theirs["accuracy"], name, theirs["tokens_kept"]["mean"], found))
    tokens = metrics["tokens_kept"]["mean"]
    print(f"{metrics['method']}: {100 * metrics['accuracy']:.1f} % at {tokens:.1f} tokens, {metrics['n']} questions")
    print("\n| against | visual tokens | accuracy | difference | 95 % interval |\n|---|---:|---:|---:|---:|")
    for accuracy, name, tokens, found in sorted(rows, key=lambda row: -row[0]):
        interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        print(f"| {name} | {tokens:.1f} | {100 * accuracy:.1f} % | {100 * found.mean:+.1f} | {interval} |")


if __name__ == "__main__":
    main()

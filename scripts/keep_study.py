"""Keeps the answers of an experiment's runs, question by question, in a small file from which pages are written.

    parbench sweep experiment=raters budget=64 limit=250
    parbench sweep experiment=raters budget=32 limit=250
    python scripts/keep_study.py raters results/runs

writes results/reference/study-raters.json. Runs are told by the settings of the experiment's variants.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.results import load
from parbench.statistics.answers import align
from study import path_of


def study(name: str, runs: Path, budgets: Sequence[int]) -> dict[str, Any]:
    """The answers of the runs of an experiment, and of the unreduced model, to the same questions.

    Args:
        name: The experiment.
        runs: Folder of runs, of one model, data set and limit.
        budgets: Budgets of the experiment; variants without a run are left out.
    """
    results = load(sorted(path for path in runs.iterdir() if path.is_dir()), columns=["image_id", "score", "skill"])
    found = results.runs[results.runs["finished"]]
    known = {_key(identity["method"]): run for run, identity in zip(found["run_id"], found["identity"], strict=True)}
    rows = [("none", None, _key(_settings(["method=none"], None)))]
    for budget in budgets:
        words = [f"experiment={name}", f"budget={budget}"]
        for label, overrides in compose_config(words).variants.items():
            try:
                rows.append((str(label), budget, _key(_settings([*words, *overrides], budget))))
            except ParbenchError:
                continue
    rows = [row for row in rows if row[2] in known]
    answers = align(results.samples, [known[key] for _, _, key in rows])
    about = found.set_index("run_id")
    first = about.loc[known[rows[0][2]]]
    return {
        "experiment": name,
        "model": first["model"],
        "dataset": f"{first['dataset']} ({first['dataset.split']})",
        "image": answers.image.tolist(),
        "skill": answers.questions_column("skill").tolist(),
        "runs": [
            {
                "label": label,
                "budget": budget,
                "method": about.loc[known[key], "method"],
                "tokens": round(float(about.loc[known[key], "tokens_mean"]), 1),
                "evidence": _rounded(about.loc[known[key], "evidence_recall"]),
                "right": "".join("1" if right else "0" for right in answers.right[place]),
            }
            for place, (label, budget, key) in enumerate(rows)
        ],
    }


def _settings(words: Sequence[str], budget: int | None) -> dict[str, Any]:
    return build_reducer(compose_config(list(words)).method, budget).settings()


def _key(settings: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in settings.items() if name != "class"}, sort_keys=True, default=list)


def _rounded(value: Any) -> float | None:
    return None if pd.isna(value) else round(float(value), 4)


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 32])
    given = parser.parse_args()
    content = study(given.experiment, given.runs, given.budgets)
    path_of(given.experiment).write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()

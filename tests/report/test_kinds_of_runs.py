"""Whatever runs there are, their report opens: without the unreduced model, skills, budgets, images, or with failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser
from made_runs import FLOPS, identity, line, write_run
from parbench.cli import main

Lines = list[dict[str, Any]]
RUNS = (("none", None), ("par", 64))
ALL = ["table", "board", "skills", "scatter", "compare"]


def lines(seed: int, count: int = 40, **fields: Any) -> Lines:
    return [
        {**line(number, float(score)), **fields} for number, score in enumerate(np.random.default_rng(seed).integers(0, 2, count))
    ]


def without_skills(seed: int) -> Lines:
    return lines(seed, skill=None, evidence_recall=None, irrelevant=None, repeated=None)


def failing(seed: int) -> Lines:
    lost = {
        "error": "out of memory",
        "score": 0.0,
        "prediction": "",
        "tokens_kept": None,
        "kept": [],
        "visual": None,
        "flops": None,
    }
    return [{**one, **(lost if number % 7 == 0 else {"flops": FLOPS})} for number, one in enumerate(lines(seed))]


def of_one_image(seed: int) -> Lines:
    return [{**one, "image_id": "image 0"} for one in lines(seed)]


def all_wrong(_: int) -> Lines:
    return [line(number, 0.0) for number in range(20)]


def in_pairs(seed: int) -> Lines:
    return [{**one, "image_id": f"existence/{number // 2}"} for number, one in enumerate(lines(seed))]


def of_two_images(seed: int) -> Lines:
    return lines(seed, images=2, kept=["f" * 144] * 2)


MME = {"dataset__metric": "mme_perception_score", "dataset__name": "mme"}


@pytest.mark.parametrize(
    ("made", "runs", "fields", "sections"),
    [
        (lines, (("par", 64), ("random", 64)), {}, ALL),
        (lines, (("none", None),), {}, ["table", "skills", "scatter"]),
        (lines, (("none", None), ("trim", None), ("fastv", None)), {}, ALL),
        (without_skills, RUNS, {}, ["table", "board", "scatter", "compare"]),
        (failing, RUNS, {}, ALL),
        (of_one_image, RUNS, {}, ALL),
        (all_wrong, RUNS, {}, ALL),
        (in_pairs, RUNS, MME, ALL),
        (of_two_images, RUNS, {}, ALL),
    ],
    ids=["no none", "none alone", "own rule", "no skills", "failures", "one image", "all wrong", "points", "two images"],
)
def test_a_report_opens(
    browser: Browser,
    tmp_path: Path,
    made: Callable[[int], Lines],
    runs: Sequence[tuple[str, int | None]],
    fields: dict[str, Any],
    sections: list[str],
):
    for seed, (method, budget) in enumerate(runs):
        write_run(tmp_path / "runs", made(seed), identity(method, budget, **fields))
    assert main(["report", str(tmp_path / "runs"), f"out={tmp_path}/report.html"]) == 0
    browser.open(tmp_path / "report.html")
    assert browser.errors() == []
    assert browser.evaluate("[...document.querySelectorAll('main > section')].map((one) => one.id)") == sections
    assert len(browser.texts("#runs tbody tr")) == len(runs)
    assert "NaN" not in browser.text("main")
    assert "undefined" not in browser.text("main")
    if made is failing:
        browser.click("#outcomes [data-outcome=wrong]")
        browser.until("document.querySelector('.card b')?.textContent === 'failed'")

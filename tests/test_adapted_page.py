"""The table of track B in docs/learned.md."""

from __future__ import annotations

import pytest

import write_adapted
from parbench.results import load


@pytest.mark.long
def test_the_table_is_that_of_the_committed_runs():
    page = write_adapted.PAGE.read_text(encoding="utf-8")
    assert write_adapted.with_table(page) == page, "run: python scripts/write_adapted.py"


def test_no_learned_row_is_without_its_controls():
    runs = load(write_adapted.ADAPTED, columns=["score"]).runs
    trained = runs["identity"].map(lambda identity: identity["adapter"]["method"])
    own = set(runs["method"][(trained == runs["method"])])
    assert own == {"random", "uniform", "cls-topk", "kmeans", "none", "vistog"}
    assert {"par", "divprune", "visionzip"} <= set(runs["method"][trained == "random"])
    assert set(runs["n"]) == {3099}
    # Trainings are equally long, on the same seed.
    assert runs["identity"].map(lambda identity: (identity["adapter"].get("steps"), identity["adapter"].get("seed"))).nunique() == 1

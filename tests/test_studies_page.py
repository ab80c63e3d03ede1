"""The pages of studies, and their paired comparisons."""

from __future__ import annotations

import numpy as np
import pytest

import write_studies
from paths import ROOT
from study import Study


@pytest.mark.parametrize("name", write_studies.PAGES)
def test_the_pages_are_not_stale(name):
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert write_studies.PAGES[name](written) == written, "run: python scripts/write_studies.py"


def made(*rows: tuple[str, str]) -> Study:
    """A study of 40 questions about 10 images, in turn on counting and on colours."""
    common = {"budget": 64, "method": "m", "tokens": 64.0, "evidence": None}
    runs = [{"label": label, "right": right, **common} for label, right in rows]
    image, skill = np.repeat(range(10), 4).tolist(), ["count", "colour"] * 20
    return Study({"model": "m", "dataset": "d", "image": image, "skill": skill, "runs": runs})


def test_runs_are_compared_on_the_same_questions():
    study = made(("own", "1100" * 10), ("better", "1110" * 10), ("other", "0011" * 10))
    better, other = study.against(lambda run: study.run("own", run["budget"]))
    assert (better.accuracy, better.difference, other.difference) == (0.75, 0.25, 0.0)
    # Holm: two comparisons, of which ten changed answers in one direction are the clearer.
    assert better.p == pytest.approx(2 * 2 * 0.5**10)
    assert other.p == 1.0


def test_a_skill_is_compared_alone():
    study = made(("own", "1100" * 10), ("better", "1110" * 10))
    reference = lambda run: study.run("own", run["budget"])  # noqa: E731
    [counting] = study.against(reference, "count")
    [colours] = study.against(reference, "colour")
    assert (counting.difference, colours.difference) == (0.5, 0.0)

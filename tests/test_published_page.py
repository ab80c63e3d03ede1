"""The pages on published numbers, and how they tell independent sources from copies."""

from __future__ import annotations

import pandas as pd
import pytest

import published_page
from parbench.tables.published import COLUMNS, read
from paths import ROOT
from published_spread import CELL, authors_and_others, reduced, scores, unreduced


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return scores(read())


@pytest.mark.parametrize(
    ("name", "made"), [("published", published_page.published_page), ("published_cells", published_page.cells_page)]
)
def test_the_pages_are_not_stale(name, made):
    written = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert written == made(), "run: python scripts/write_published.py"


def printed(papers: dict[str, list[float]], method: str = "fastv", **fields) -> pd.DataFrame:
    """Accuracies of some papers, on as many benchmarks as each has."""
    blank = {name: "" if kind == "str" else False if kind == "bool" else float("nan") for name, kind in COLUMNS.items()}
    found = [
        {
            **blank,
            **{
                "model": "llava-1.5-7b",
                "method": method,
                "metric": "accuracy",
                "tokens": 64.0,
                "benchmark": f"b{place}",
                "value": value,
            },
            **{"paper": paper, "source": paper, "name": paper.split(":")[-1], "place": "Table 1", **fields},
        }
        for paper, values in papers.items()
        for place, value in enumerate(values)
    ]
    return pd.DataFrame(found).astype(COLUMNS)


OLD, COPY, OTHER = "arXiv:2401.00001", "arXiv:2501.00001", "arXiv:2502.00001"


def test_a_copied_row_is_one_source_and_has_the_value_of_the_oldest_paper():
    cells = reduced(scores(printed({COPY: [50.0, 60.0, 70.5], OTHER: [51.0, 63.0, 74.0], OLD: [50.0, 60.0, 70.0]})))
    assert list(cells["sources"]) == [2, 2, 2]
    assert list(cells["papers"]) == [3, 3, 3]
    assert list(cells["spread"]) == [1.0, 3.0, 4.0]
    assert cells["said"].iloc[0] == "50 2401.00001 + 1; 51 2502.00001"


def test_papers_that_copied_from_one_another_alone_are_no_cell():
    assert reduced(scores(printed({OLD: [50.0, 60.0, 70.0], COPY: [50.0, 60.0, 71.0]}))).empty


def test_one_equal_value_of_many_is_no_copy():
    cells = reduced(scores(printed({OLD: [50.0, 60.0, 70.0], COPY: [50.0, 61.0, 72.0]})))
    assert list(cells["spread"]) == [0.0, 1.0, 2.0]


def test_what_a_source_says_that_it_took_over_is_a_copy():
    both = pd.concat([printed({OLD: [50.0, 60.0]}), printed({COPY: [51.0, 62.0]}, taken_from=OLD)], ignore_index=True)
    assert reduced(scores(both)).empty


@pytest.mark.parametrize(
    "fields",
    [
        {"frames": "32"},
        {"setting": "OCR tokens"},
        {"resolution": "dynamic"},
        {"subset": "val"},
        {"variant": "v1"},
        {"tokens": 128.0},
    ],
)
def test_numbers_of_different_settings_are_never_one_cell(fields):
    both = pd.concat([printed({OLD: [50.0]}), printed({OTHER: [60.0]}, **fields)], ignore_index=True)
    assert reduced(scores(both)).empty
    assert len(reduced(scores(printed({OLD: [50.0], OTHER: [60.0]})))) == 1


def test_trained_methods_are_left_out():
    assert scores(printed({OLD: [50.0]}, trained=True)).empty


def test_equal_unreduced_models_agree():
    none = unreduced(scores(printed({OLD: [60.0, 70.0], OTHER: [60.0, 71.5]}, method="none", tokens=576.0)))
    assert list(none["papers"]) == [2, 2]
    assert list(none["spread"]) == [0.0, 1.5]


def test_authors_are_compared_with_others_that_measured_independently():
    own = printed({OLD: [52.0, 62.0]}, own_authors=True)
    cells = authors_and_others(scores(pd.concat([own, printed({OTHER: [50.0, 61.0]})], ignore_index=True)))
    assert list(cells["difference"]) == [2.0, 1.0]
    assert authors_and_others(scores(pd.concat([own, printed({COPY: [52.0, 62.0]})], ignore_index=True))).empty


def test_a_known_disagreement_is_shown_with_its_papers(rows):
    cells = reduced(rows)
    fastv = cells[(cells["model"] == "llava-next-7b") & (cells["benchmark"] == "gqa") & (cells["method"] == "fastv")]
    cell = fastv[(fastv["share"] == 0.111) & (fastv["variant"] == "")].iloc[0]
    assert (cell["low"], cell["high"]) == (49.8, 55.9)
    assert "52.1 EADP" in cell["said"]
    assert not cells.duplicated(CELL).any()
    assert (cells["sources"] >= 2).all()

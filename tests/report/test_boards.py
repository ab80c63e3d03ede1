"""The leaderboard: which runs stand on which board, their ranks, and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from made_runs import write_scores
from parbench.cli import main

GOOD, MIDDLING, BAD = 0.9, 0.88, 0.3


def scores(share: float, seed: int, count: int = 400) -> list[float]:
    return (np.random.default_rng(seed).random(count) < share).astype(float).tolist()


def written(root: Path) -> tuple[Path, Path]:
    """Two folders of two models: one has all methods, one lacks fastv."""
    mine, theirs = root / "mine", root / "theirs"
    for seed, (method, share) in enumerate({"none": 0.95, "par": GOOD, "random": BAD}.items()):
        write_scores(mine, scores(share, seed), method, None if method == "none" else 64)
    write_scores(theirs, scores(MIDDLING, 7), "visionzip", 64)
    write_scores(theirs, scores(BAD, 8), "fastv", 64)
    write_scores(theirs, scores(GOOD, 9), "par", 128)
    for seed, (method, share) in enumerate({"none": 0.8, "par": 0.7, "visionzip": 0.2, "random": 0.1}.items()):
        write_scores(theirs, scores(share, 20 + seed), method, None if method == "none" else 64, model="other")
    return mine, theirs


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("board")
    mine, theirs = written(root)
    assert main(["report", str(mine), str(theirs), "--leaderboard", f"out={root}/board.html"]) == 0
    return root / "board.html"


def content(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found.group(1))


def rows_of(path: Path, title: str, budget: int) -> dict[str, dict]:
    found = next(one for one in content(path)["boards"]["all"] if one["title"] == title)
    return {row["name"]: row for group in found["groups"] if group["budget"] == budget for row in group["rows"]}


TINY, OTHER = "llava-tiny on scenes (test)", "other on scenes (test)"


@pytest.mark.cli
def test_runs_of_several_folders_stand_on_the_board_of_their_setting(board):
    titles = [one["title"] for one in content(board)["boards"]["all"]]
    assert titles[0] == "mean over 2 settings"
    assert sorted(titles[1:]) == [TINY, OTHER]
    rows = rows_of(board, TINY, 64)
    assert {name: row["folder"] for name, row in rows.items()} == {
        "par": "mine",
        "visionzip": "theirs",
        "random": "mine",
        "fastv": "theirs",
    }
    assert set(rows_of(board, TINY, 128)) == {"par"}


@pytest.mark.cli
def test_a_page_does_not_tell_where_folders_are(board):
    assert content(board)["about"]["said"].endswith("from mine, theirs.")
    assert str(board.parent) not in board.read_text()


@pytest.mark.cli
def test_rows_are_sorted_by_what_is_retained_and_ranks_respect_ties(board):
    rows = rows_of(board, TINY, 64)
    retained = [row["retained"] for row in rows.values()]
    assert retained == sorted(retained, reverse=True)
    assert {name: row["rank"] for name, row in rows.items()} == {"par": 1, "visionzip": 1, "random": 3, "fastv": 3}
    assert rows["par"]["ties"] == ["visionzip"]
    for row in rows.values():
        assert row["retained_low"] < row["retained"] < row["retained_high"]
    none = sum(scores(0.95, 0))
    assert rows["par"]["retained"] == pytest.approx(100 * sum(scores(GOOD, 1)) / none, rel=1e-4)


@pytest.mark.cli
def test_the_mean_is_over_what_every_setting_has(board):
    mean, one, other = (rows_of(board, title, 64) for title in ("mean over 2 settings", TINY, OTHER))
    assert set(mean) == {"par", "visionzip", "random"}
    for name, row in mean.items():
        assert row["retained"] == pytest.approx((one[name]["retained"] + other[name]["retained"]) / 2, rel=1e-4)
    assert [row["rank"] for row in mean.values()] == [1, 2, 3]


@pytest.mark.cli
def test_a_report_of_several_settings_is_refused_and_a_leaderboard_is_not(run, folder):
    mine, theirs = written(folder)
    code, _, err = run("report", str(mine), str(theirs))
    assert code == 2
    assert "differ in model" in err
    code, out, _ = run("report", str(mine), str(theirs), "leaderboard=true")
    assert code == 0
    assert out.startswith("results/leaderboard.html (0.")


@pytest.mark.cli
def test_a_setting_that_no_board_can_show_is_skipped_with_a_word(run, folder):
    mine, _ = written(folder)
    write_scores(mine, scores(GOOD, 1), model="alone")
    code, _, err = run("report", str(mine), "--leaderboard")
    assert code == 0
    assert "skipped: the runs of alone on scenes are all unreduced" in err
    code, _, err = run("report", str(mine), "model=alone", "--leaderboard")
    assert code == 2
    assert "the runs of alone on scenes are all unreduced" in err.splitlines()[-1]


def test_a_setting_and_a_budget_are_chosen_and_sent(browser, board):
    browser.open(board)
    assert browser.texts("#ranks tbody tr th") == ["1par", "2visionzip", "3random"]
    place = [one["title"] for one in content(board)["boards"]["all"]].index(TINY)
    browser.choose("#board-setting", str(place))
    assert browser.texts("#ranks tbody tr th") == ["–none", "1par", "1visionzip", *rest_of(board)]
    browser.click("#board-controls")
    assert browser.texts("#ranks tbody tr th") == ["–none", "1par", "1visionzip", "3fastv"]
    browser.click("tr[data-row=par] button.link")
    browser.until("document.getElementById('hint').matches(':popover-open')")
    assert browser.text("#hint") == "Not significantly different from parvisionzip"
    browser.choose("#board-budget", "128")
    view = browser.text("#ranks")
    fragment = browser.evaluate("location.hash.slice(1)")
    browser.open(board, fragment=fragment)
    assert browser.text("#ranks") == view
    assert browser.errors() == []


def test_a_heading_sorts_the_rows_below_none_and_the_order_is_sent(browser, board):
    browser.open(board)
    place = [one["title"] for one in content(board)["boards"]["all"]].index(TINY)
    browser.choose("#board-setting", str(place))
    by_rank = browser.texts("#ranks tbody tr th")
    browser.click('#ranks th[data-key="value"] button')
    assert browser.texts("#ranks tbody tr th") == by_rank
    browser.click('#ranks th[data-key="value"] button')
    assert browser.texts("#ranks tbody tr th") == [by_rank[0], *reversed(by_rank[1:])]
    assert browser.evaluate("""document.querySelector('#ranks th[data-key="value"]').getAttribute('aria-sort')""") == "ascending"
    fragment = browser.evaluate("location.hash.slice(1)")
    browser.open(board, fragment=fragment)
    assert browser.texts("#ranks tbody tr th") == [by_rank[0], *reversed(by_rank[1:])]
    # The mean over settings has no such column, and keeps the order of its ranks.
    browser.choose("#board-setting", "0")
    assert browser.texts("#ranks tbody tr th") == ["1par", "2visionzip", "3random"]
    assert browser.errors() == []


def rest_of(board: Path) -> list[str]:
    return [f"3{name}" for name, row in rows_of(board, TINY, 64).items() if row["rank"] == 3]


@pytest.mark.parametrize("width", [390, 1300])
def test_it_fits_the_window(browser, board, width):
    browser.open(board, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1300:
        assert browser.evaluate("document.querySelector('.wide').scrollWidth - document.querySelector('.wide').clientWidth") <= 0
    assert browser.errors() == []

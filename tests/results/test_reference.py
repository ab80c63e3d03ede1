"""The committed runs of results/reference: whole, and what the committed table says of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers import METHODS
from parbench.results import load
from parbench.results.layouts import read_layouts
from parbench.results.packed import packed_in, packed_lines, unpack
from parbench.tables.comparing import compare
from paths import ROOT

REFERENCE = ROOT / "results" / "reference"
RUNS, CLIPS = REFERENCE / "scenes", REFERENCE / "scenes-video"


def committed(runs: Path) -> pd.DataFrame:
    return pd.read_csv(runs.with_suffix(".csv"), dtype={"run_id": str}).set_index("run_id", drop=False)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return committed(RUNS)


def answers(run: str, runs: Path = RUNS) -> list[dict]:
    lines = packed_lines(runs / run)
    assert lines is not None
    return lines.lines()


def test_the_methods_of_the_table_are_there_at_every_budget(table):
    asked = table[table["budget"].notna()]
    budgets = asked.groupby("method")["budget"].agg(set)
    assert set(METHODS) == set(table["method"])
    # Inside the LLM a full layer of 12 is already 48 tokens on average.
    inside = {name: {192, 128, 64} for name in ("dart", "fastv", "pyramiddrop", "random-in-llm", "sparsevlm", "topv")}
    # VTW drops all tokens at one layer, so its average is a multiple of 48. The codec was trained at 8 to 64 tokens.
    fewer = {"none": set(), "yopo": set(), "vtw": {192}, "pact": {192, 128}, "tofc-codec": {64, 32}, **inside}
    for method in set(table["method"]):
        assert budgets.get(method, set()) == fewer.get(method, {192, 128, 64, 32}), method


def test_nothing_of_the_machine_that_made_them_is_stored():
    folders = [path.parent for path in REFERENCE.glob("*/runs.parquet")]
    assert len(folders) > 5
    for text in (text for folder in folders for run in unpack(folder) for text in run.files.values()):
        assert "/home/" not in text
        assert ": /" not in text


@pytest.mark.parametrize("label", ["par @64", "fastv @128", "prumerge @32"])
def test_a_row_of_the_table_is_what_its_samples_say(table, label):
    by_label = table.set_index("label")
    row, none = by_label.loc[label], by_label.loc["none"]
    mine, whole = answers(row["run_id"]), answers(none["run_id"])
    assert [one["id"] for one in mine] == [one["id"] for one in whole]
    assert not any(one["error"] for one in mine)
    scores = [one["score"] for one in mine]
    assert row["n"] == len(scores) == 3099
    assert row["score"] == pytest.approx(sum(scores) / len(scores))
    assert row["retained"] == pytest.approx(sum(scores) / sum(one["score"] for one in whole))
    flips = [(before["score"], after["score"]) for before, after in zip(whole, mine, strict=True)]
    assert (row["broken"], row["fixed"]) == (flips.count((1.0, 0.0)), flips.count((0.0, 1.0)))
    kept = [one["tokens_kept"] for one in mine]
    assert row["tokens_mean"] == pytest.approx(sum(kept) / len(kept))
    assert row["compression"] == pytest.approx(1 - row["tokens_mean"] / 576)
    recalls = [one["evidence_recall"] for one in mine if one["evidence_recall"] is not None]
    assert row["evidence_recall"] == pytest.approx(sum(recalls) / len(recalls))
    parts = ("vision", "projector", "reducer", "llm_prefill")
    spent = [sum(one["flops"][part] for one in mine) / len(mine) for part in parts]
    assert row["flops_prefill"] == pytest.approx(sum(spent))


def test_rows_about_clips_are_what_their_samples_say():
    rows = committed(CLIPS)
    assert len(rows) == len(packed_in(CLIPS)) == 47
    for run, row in rows.iterrows():
        told = answers(run, CLIPS)
        assert row["n"] == len(told) == 1337
        assert row["score"] == pytest.approx(sum(one["score"] for one in told) / len(told))
        [layout] = read_layouts(CLIPS / run).values()
        assert layout.frames == 4


@pytest.mark.parametrize("runs", [RUNS, CLIPS], ids=lambda runs: runs.name)
def test_the_table_is_that_of_the_runs(runs):
    table = committed(runs)
    fresh = compare(load(runs)).frame.set_index("run_id", drop=False)
    assert list(fresh.index) == list(table.index)
    numbers = [name for name in fresh.select_dtypes("number") if name in table]
    assert len(numbers) > 40
    pd.testing.assert_frame_equal(
        fresh[numbers].astype(float), table[numbers].astype(float), check_exact=False, rtol=1e-6, atol=1e-9
    )


def test_the_table_of_the_readme_is_what_its_runs_say():
    text = (REFERENCE / "readme.md").read_text(encoding="utf-8").replace("**", "")
    runs = load(REFERENCE / "readme").runs
    assert len(runs) == 6
    for run in runs.itertuples():
        told = answers(run.run_id, REFERENCE / "readme")
        accuracy = 100 * sum(one["score"] for one in told) / len(told)
        assert len(told) == 1000
        assert f"| {run.label} | {sum(one['tokens_kept'] for one in told) / 1000:.1f} | {accuracy:.1f} [" in text

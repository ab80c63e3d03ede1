"""Many runs in one file: what comes out is what went in, and everything that reads runs reads them there."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keep_runs
from made_runs import identity, line, write_run, write_scores
from parbench import results
from parbench.cli import main
from parbench.errors import ParbenchError
from parbench.results.folders import find, read
from parbench.results.layouts import read_layouts
from parbench.results.packed import FILE, PackedRun, is_there, pack, packed_in, packed_lines, read_text, unpack
from parbench.results.status import overview

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
LINES = st.lists(st.dictionaries(st.sampled_from(["id", "score", "a.json", "run_id", "kept"]), VALUES), min_size=1, max_size=4)
FILES = st.dictionaries(st.sampled_from(["metrics.json", "config.yaml", "layouts.jsonl"]), st.text(), max_size=3)


@given(st.dictionaries(st.sampled_from(["b", "a", "c"]), st.tuples(FILES, LINES), min_size=1))
def test_what_is_packed_comes_out_value_by_value(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("packed")
    pack([PackedRun(name, files, lines) for name, (files, lines) in runs.items()], folder)
    assert packed_in(folder) == tuple(sorted(runs))
    for run in unpack(folder):
        files, lines = runs[run.id]
        assert run.files == files
        # 1, 1.0 and True are equal in Python.
        assert [json.dumps(line, sort_keys=True) for line in run.lines] == [json.dumps(line, sort_keys=True) for line in lines]


@pytest.fixture
def runs(folder):
    """Two finished runs, one of them with layouts, and an unfinished one."""
    write_scores(folder / "results" / "runs", [1, 0, 1], "par", 64)
    other = write_scores(folder / "results" / "runs", [1, 1, 1])
    layout = {"size": [28, 28], "grids": [{"kind": "image", "fine": True, "x": [0, 14, 28], "y": [0, 14, 28]}]}
    (other / "layouts.jsonl").write_text(json.dumps(layout) + "\n")
    for run in (folder / "results" / "runs").iterdir():
        (run / "config.yaml").write_text(f"dataset: {{path: {folder}/data}}\nresults_dir: /else/where/results/runs\n")
        (run / "plan.json").write_text('{"format": 1, "batch_size": 8, "questions": 3}')
    write_run(folder / "results" / "runs", [line(0, 1.0)], identity("random", 64), finished=False)
    return folder / "results" / "runs"


@pytest.fixture
def packed(runs, folder):
    keep_runs.main([str(runs), str(folder / "packed")])
    return folder / "packed"


def test_a_packed_folder_is_read_as_a_folder_of_runs(runs, packed):
    assert [path.name for path in packed.iterdir()] == [FILE]
    there, here = results.load(runs), results.load(packed)
    pd.testing.assert_frame_equal(there.runs.drop(columns="folder"), here.runs.drop(columns="folder"))
    pd.testing.assert_frame_equal(there.samples, here.samples)
    assert (here.ignored, here.unfinished) == ((), ())
    for name in packed_in(packed):
        assert read_layouts(packed / name) == read_layouts(runs / name)
        assert read_text(packed / name / "config.yaml") == "dataset: {path: data}\nresults_dir: results/runs\n"
        lines = read(packed / name).lines
        assert (list(lines), lines[0], lines[-2:]) == (there_lines := read(runs / name).lines, there_lines[0], there_lines[-2:])
    assert not is_there(packed / packed_in(packed)[0] / "failed.json")


def test_one_packed_run_is_named_like_a_folder(packed):
    name = packed_in(packed)[0]
    assert results.load(packed / name).runs["run_id"].tolist() == [name]
    with pytest.raises(ParbenchError, match="nowhere does not exist"):
        find([packed / "nowhere"])
    assert packed_lines(packed / "nowhere") is None


def test_the_same_runs_give_the_same_bytes(runs, packed, folder):
    keep_runs.main([str(packed), str(folder / "again")])
    assert (folder / "again" / FILE).read_bytes() == (packed / FILE).read_bytes()


def test_runs_are_added_to_those_that_are_packed(packed, folder):
    before = set(packed_in(packed))
    write_scores(folder / "more", [0, 0, 1], "fastv", 64)
    (next((folder / "more").iterdir()) / "config.yaml").write_text("{}")
    keep_runs.main([str(folder / "more"), str(packed)])
    assert before < set(packed_in(packed))
    assert set(results.load(packed).runs["method"]) == {"none", "par", "fastv"}


def test_runs_may_lie_beside_a_pack_and_a_copy_counts_once(runs, packed):
    write_scores(packed, [0, 1, 1], "fastv", 64)
    shutil.copytree(runs / packed_in(packed)[0], packed / packed_in(packed)[0])
    assert len(results.load(packed).runs) == 3


def test_status_and_table_know_packed_runs(packed, capsys):
    assert [(one.state, one.done, one.total) for one in overview(packed)] == [("done", 3, 3)] * 2
    main(["table", str(packed)])
    assert "par @64" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PAR1 or not", "foreign"], ids=["empty", "text", "foreign"])
def test_a_file_that_is_no_pack_is_refused_in_a_sentence(folder, content):
    if content == "foreign":
        pd.DataFrame({"a": [1, 2]}).to_parquet(folder / FILE)
    else:
        (folder / FILE).write_bytes(content)
    with pytest.raises(ParbenchError, match=r"runs.parquet is damaged or not packed by parbench") as error:
        results.load(folder)
    assert "\n" not in str(error.value)

"""Splits whose answers only a server has: refused for scoring, and the server's file written with submission=true."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from helpers import refused
from official_data import mmbench, pope, saved
from small_data import lines, metrics, png


def vqav2(folder: Path, split: str) -> Path:
    rows = [
        {
            "question_type": "what",
            "multiple_choice_answer": None,
            "answers": None,
            "image_id": 7 + number // 2,
            "answer_type": None,
            "question_id": 1000 + number,
            "question": "What colour is it?",
            "image": {"bytes": png(("red", "blue")[number // 2]), "path": None},
        }
        for number in range(4)
    ]
    return saved(folder, split, rows)


def vizwiz(folder: Path, split: str, answers: list | None = None) -> Path:
    rows = [
        {
            "question_id": f"VizWiz_test_{number:08}",
            "image": {"bytes": png("red"), "path": None},
            "question": "what is this?",
            "answers": answers,
            "category": None,
        }
        for number in range(3)
    ]
    return saved(folder, split, rows)


def textvqa(folder: Path, split: str) -> Path:
    rows = [
        {
            "image_id": f"i{number}",
            "question_id": number,
            "question": "what does it say?",
            "image": {"bytes": png("red"), "path": None},
            "answers": [""] * 10,
            "ocr_tokens": ["STOP", "now"],
        }
        for number in range(3)
    ]
    return saved(folder, split, rows)


WORDS = ("eval", "method=none", "dataset.max_new_tokens=2", "submission=true")


@pytest.mark.parametrize(
    ("name", "make", "split", "suffix"),
    [
        ("vqav2", vqav2, "testdev", ".json"),
        ("vizwiz", vizwiz, "test", ".json"),
        ("textvqa", textvqa, "test", ".json"),
        ("mmbench", lambda path, split: mmbench(path, 3, split=split, text=True), "test", ".xlsx"),
    ],
)
def test_the_servers_file_is_lmms_evals(run, folder, name, make, split, suffix):
    from lmms_eval.tasks import TaskManager  # noqa: F401 - its task modules are imported below
    from lmms_eval.tasks.mmbench import en_utils as mmbench_utils
    from lmms_eval.tasks.textvqa import utils as textvqa_utils
    from lmms_eval.tasks.vizwiz_vqa import utils as vizwiz_utils
    from lmms_eval.tasks.vqav2 import utils as vqav2_utils

    theirs = {
        "vqav2": (vqav2_utils.vqav2_process_results_test, vqav2_utils.vqav2_aggregate_submissions),
        "vizwiz": (vizwiz_utils.vizwiz_vqa_process_results, vizwiz_utils.vizwiz_vqa_aggregate_submissions),
        "textvqa": (textvqa_utils.textvqa_process_results, textvqa_utils.textvqa_aggregate_submissions),
        "mmbench": (mmbench_utils.mmbench_process_results, mmbench_utils.mmbench_aggregate_test_results),
    }
    path = make(folder / name, split)
    words = (*WORDS, f"dataset={name}", f"dataset.path={path}", f"dataset.split={split}", "engine.batch_size=2")
    code, out, err = run(*words)
    assert code == 0, err
    shown = " ".join(out.split())
    assert "no accuracy: only the benchmark's server has the answers" in shown
    assert "accuracy %" not in shown
    (made,) = (folder / "results" / "runs").glob("*/submission.*")
    assert str(made) in " ".join(err.split()) or made.name in err
    found, rows = metrics(folder / "results" / "runs")["none"], lines(folder / "results" / "runs")["none"]
    assert found["accuracy"] is None
    assert found["n"] == len(rows)
    assert {row["score"] for row in rows} == {None}
    # The same answers through lmms-eval's functions.
    docs = pd.read_parquet(next(path.glob("*.parquet"))).drop(columns="image").to_dict("records")
    if name == "mmbench":
        docs = [{**doc, "index": int(doc["index"])} for doc in docs]
    else:
        docs = [{**doc, "answers": None} for doc in docs]
    process, aggregate = theirs[name]
    said = {int(row["id"].rpartition("-")[2]): row["prediction"] for row in rows}
    aggregate(
        [process(doc, [said[number]])["submission"] for number, doc in enumerate(docs)],
        SimpleNamespace(output_path=str(folder / "theirs")),
    )
    (other,) = (folder / "theirs" / "submissions").glob("*")
    assert made.suffix == other.suffix == suffix
    if suffix == ".json":
        assert json.loads(made.read_text()) == json.loads(other.read_text())
    else:
        pd.testing.assert_frame_equal(pd.read_excel(made), pd.read_excel(other))
        assert len(pd.read_excel(made)) == len(docs)


def test_a_submission_goes_on_and_is_merged(run, folder):
    path = vqav2(folder / "vqav2", "test")
    words = (*WORDS, "dataset=vqav2", f"dataset.path={path}", "dataset.split=test", "engine.batch_size=2")
    assert run(*words, "results_dir=runs")[0] == 0
    (made,) = (folder / "runs").glob("*/submission.json")
    before = made.read_bytes()
    made.unlink()
    (made.parent / "metrics.json").unlink()
    samples = made.parent / "samples.jsonl"
    samples.write_bytes(samples.read_bytes()[:-30])
    code, out, err = run(*words, "results_dir=runs")
    assert code == 0, err
    assert made.read_bytes() == before
    assert "no accuracy" in out
    for shard in ("0/2", "1/2"):
        assert run(*words, "results_dir=parts", f"shard={shard}")[0] == 0
    assert not list((folder / "parts").glob("*/submission*"))
    code, _, err = run("merge", "parts", "out=merged")
    assert code == 0, err
    (merged,) = (folder / "merged").glob("*/submission.json")
    assert json.loads(merged.read_text()) == json.loads(before)
    for command in ("figures", "report"):
        assert "have no scores, since only the benchmark's server has the answers" in refused(run, command, "merged")
    code, out, err = run("table", "merged")
    assert code == 0, err
    assert "no accuracy" in out


@pytest.mark.parametrize(
    ("name", "make", "split", "said"),
    [
        ("vqav2", vqav2, "test", "write its server's file with submission=true"),
        ("vizwiz", vizwiz, "test", "write its server's file with submission=true"),
        ("vizwiz", vizwiz, "val", "split val of data set vizwiz has no answers"),
        ("textvqa", textvqa, "validation", "split validation of data set textvqa has no answers"),
        ("mmbench", lambda path, split: mmbench(path, 2, split="test"), "test", "submission=true"),
    ],
)
def test_splits_without_answers_are_refused_before_anything_is_computed(run, folder, name, make, split, said):
    path = make(folder / name, split)
    words = (
        "eval",
        "method=none",
        f"dataset={name}",
        f"dataset.path={path}",
        f"dataset.split={split}",
        "results_dir=runs",
    )
    assert said in refused(run, *words)
    assert not (folder / "runs").exists()


def test_single_rows_without_an_answer_are_named(run, folder):
    path = pope(folder / "pope", 1)
    (file,) = path.glob("*.parquet")
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=str(file), split="train")
    answers = [None if number == 4 else answer for number, answer in enumerate(rows["answer"])]
    rows.remove_columns("answer").add_column("answer", answers).to_parquet(file)
    said = refused(run, "eval", "method=none", "dataset=pope", f"dataset.path={path}")
    assert "1 of 6 rows of data set pope have nothing in answer, the first of them row 4" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dataset=scenes",), "data set scenes has no server"),
        (("dataset=pope",), "data set pope has no server"),
        (("submission=maybe",), "submission=maybe is neither true nor false"),
    ],
)
def test_a_submission_where_there_is_no_server_is_refused(run, words, said):
    given = words if words[0].startswith("submission=") else ("submission=true", *words)
    assert said in refused(run, "eval", "method=none", *given)

"""Runs in others' forms: what the forms demand is there, and the numbers are the table's."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re

import pytest
import yaml

from helpers import refused
from made_runs import identity, line, write_run
from parbench.results import load
from parbench.tables.comparing import compare

SCORES = [1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0]
NEEDED = ("schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "eval_library", "model_info")
NEEDED_OF_A_RESULT = ("evaluation_name", "source_data", "metric_config", "score_details")
NEEDED_OF_A_SAMPLE = ("schema_version", "evaluation_id", "model_id", "evaluation_name", "sample_id", "interaction_type", "input")


@pytest.fixture
def runs(folder):
    """Two runs of which one has a failed question, in ``runs``."""
    lines = [line(number, score) for number, score in enumerate(SCORES)]
    failed = line(12, 0, error="out of memory", prediction="", tokens_kept=None, layers=None, generated=None)
    by = [{"parbench": "0.1.0", "device": "cpu"}]
    write_run(folder / "runs", [*lines, line(12, 1)], identity(), computed_by=by)
    write_run(folder / "runs", [*lines, failed], identity("par", 64), computed_by=by)
    return folder / "runs"


def exported(run, *words):
    code, out, err = run("export", *words)
    assert code == 0, err
    return [path.strip() for path in out.splitlines()]


def by_method(folder, paths):
    found = [json.loads((folder / path).read_text()) for path in paths]
    return {one["evaluation_results"][0]["score_details"]["details"]["method"]: one for one in found}


def test_every_eval_ever_has_what_its_schema_demands(run, runs, folder):
    paths = exported(run, "runs", "out=out", "organization=My Lab")
    assert len(paths) == 2
    records = by_method(folder, paths)
    for path in paths:
        assert re.fullmatch(r"out/data/scenes/parbench/llava-tiny/[0-9a-f-]{36}\.json", path)
        record = json.loads((folder / path).read_text())
        assert all(key in record for key in NEEDED)
        assert record["source_metadata"]["source_organization_name"] == "My Lab"
        assert record["eval_library"]["version"] == "0.1.0"
        detail = record["detailed_evaluation_results"]
        text = (folder / "out" / detail["file_path"]).read_text()
        samples = [json.loads(one) for one in text.splitlines()]
        assert detail["checksum"] == hashlib.sha256(text.encode()).hexdigest()
        assert detail["total_rows"] == len(samples) == 13
        for one in record["evaluation_results"]:
            assert all(key in one for key in NEEDED_OF_A_RESULT)
        for one in samples:
            assert all(key in one for key in (*NEEDED_OF_A_SAMPLE, "output", "answer_attribution", "evaluation"))
            assert (one["evaluation_id"], one["model_id"]) == (record["evaluation_id"], "parbench/llava-tiny")
        assert sum(one["evaluation"]["score"] for one in samples) / 13 == pytest.approx(
            record["evaluation_results"][0]["score_details"]["score"]
        )
    last = samples_of(folder, records["par"])[-1]
    assert (last["error"], last["evaluation"]) == ("out of memory", {"score": 0.0, "is_correct": False})
    assert "token_usage" not in last


def samples_of(folder, record):
    path = folder / "out" / record["detailed_evaluation_results"]["file_path"]
    return [json.loads(one) for one in path.read_text().splitlines()]


def test_what_is_exported_is_what_the_table_says(run, runs, folder):
    frame = compare(load(runs)).frame.set_index("method")
    records = by_method(folder, exported(run, "runs", "out=out"))
    (card,) = exported(run, "runs", "out=out", "--format=model-index")
    metrics = yaml.safe_load((folder / card).read_text())["model-index"][0]["results"][0]["metrics"]
    cards = {one["args"]["method"]: one for one in metrics}
    for method, row in frame.iterrows():
        overall, *skills = records[method]["evaluation_results"]
        interval = overall["score_details"]["uncertainty"]["confidence_interval"]
        assert overall["score_details"]["score"] == pytest.approx(row["score"])
        assert (interval["lower"], interval["upper"]) == pytest.approx((row["score_low"], row["score_high"]))
        assert {one["evaluation_name"] for one in skills} == {"scenes/colour", "scenes/count"}
        assert cards[method]["value"] == pytest.approx(row["score"])
        assert cards[method]["args"]["confidence_interval"] == pytest.approx([row["score_low"], row["score_high"]])


def test_exported_again_the_files_have_the_same_names(run, runs, folder):
    first = exported(run, "runs", "out=out")
    assert exported(run, "runs", "out=out") == first
    assert exported(run, "runs", "method=par", "out=other")[0].removeprefix("other") in {one.removeprefix("out") for one in first}


@pytest.mark.skipif(not importlib.util.find_spec("every_eval_ever"), reason="needs Python 3.12 and every-eval-ever")
def test_its_own_validator_finds_nothing(run, runs, folder, monkeypatch):
    from every_eval_ever.validator.validate import validate_file

    paths = [path.removeprefix("out/") for path in exported(run, "runs", "out=out")]
    monkeypatch.chdir(folder / "out")
    names = [*paths, *(path.replace(".json", "_samples.jsonl") for path in paths)]
    for name in names:
        report = validate_file(folder / "out" / name)
        assert report.valid, report.errors
        assert not report.warnings


def test_the_model_index_is_what_the_hub_reads(run, runs, folder):
    from huggingface_hub import ModelCard

    (path,) = exported(run, "runs", "out=out", "--format=model-index")
    assert path == "out/parbench/llava-tiny/model-index.yaml"
    card = ModelCard(f"---\n{(folder / path).read_text()}---\n# llava-tiny\n")
    assert card.data.model_name == "llava-tiny"
    assert {one.metric_args["method"] for one in card.data.eval_results} == {"none", "par"}
    assert {one.task_type for one in card.data.eval_results} == {"visual-question-answering"}


def test_a_model_of_the_hub_keeps_its_name(run, folder):
    place = write_run(folder / "runs", [line(number, 1) for number in range(10)], identity(model="llava-1.5-7b"))
    (place / "config.yaml").write_text("model: {path: llava-hf/llava-1.5-7b-hf, revision: b234b80}\n")
    (path,) = exported(run, "runs", "out=out", "model_id=my-lab/mine")
    assert path.startswith("out/data/scenes/llava-hf/llava-1.5-7b-hf/")
    (place / "config.yaml").write_text("model: {path: /models/llava-1.5-7b, revision: b234b80}\n")
    assert "model_id=ORG/NAME" in refused(run, "export", "runs", "out=out")


def test_what_cannot_be_exported_is_said(run, folder):
    write_run(folder / "runs", [line(number, 1) for number in range(10)], identity(model="mine"))
    assert "model_id=ORG/NAME" in refused(run, "export", "runs", "out=out")
    assert not (folder / "out" / "data").exists()
    assert "write it as ORG/NAME" in refused(run, "export", "runs", "out=out", "model_id=mine")
    assert exported(run, "runs", "out=out", "model_id=my-lab/mine")[0].startswith("out/data/scenes/my-lab/mine/")
    (folder / "file").write_text("")
    assert "choose another path" in refused(run, "export", "runs", "out=file", "model_id=my-lab/mine")


def test_runs_that_a_server_scores_are_not_exported(run, folder):
    lines = [line(number, None) for number in range(10)]
    write_run(folder / "runs", lines, identity())
    assert "nothing to export" in refused(run, "export", "runs", "out=out")

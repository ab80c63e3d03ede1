"""The types of a run's files: what is written comes back, old files are read by defaults, later ones refused; their page is
fresh.
"""

from __future__ import annotations

import json

import pytest

from made_runs import identity, line, metrics_of, sample, write_run, write_scores
from parbench import results
from parbench.errors import ParbenchError
from parbench.results.record import TIMING_FIELDS, RunMetrics, SampleRecord, without_timing
from write_results import PAGE, with_tables


def test_what_is_written_comes_back():
    record = sample({**line(3, 0.5), "unit": "u", "category": "count"})
    written = json.loads(json.dumps(record.to_json()))
    assert written["format"] == 1
    assert written["category"] == record.get("category") == "count"
    assert SampleRecord.parse(written, "a line") == record
    metrics = metrics_of([record])
    assert RunMetrics.parse(json.loads(json.dumps(metrics.to_json())), "metrics.json") == metrics


def test_a_sample_of_no_unit_does_not_speak_of_one():
    assert "unit" not in sample(line(0, 1.0)).to_json()


def test_samples_of_before_lack_what_came_later():
    found = line(0, 1.0)
    for name in ("repeated", "irrelevant", "seconds", "stages"):
        del found[name]
    record = SampleRecord.parse(found, "a line")
    assert (record.repeated, record.irrelevant, record.seconds, record.stages) == (None, None, None, {})


@pytest.mark.parametrize("file", ["samples.jsonl", "metrics.json"])
def test_files_of_a_later_format_are_refused(folder, file):
    path = write_scores(folder, [1]) / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(ParbenchError, match=rf"{file} is of format 2, and parbench .* reads up to 1"):
        results.load(folder)


def test_a_provenance_of_a_later_format_is_refused(folder):
    path = write_scores(folder, [1]) / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(ParbenchError, match="format 2; this parbench reads up to 1"):
        results.load(folder)


def test_runs_with_and_without_a_format_stand_in_one_frame(folder):
    old = write_run(folder, [line(0, 1.0)], identity())
    new = write_run(folder, [sample(line(0, 1.0)).to_json()], identity("par", 64))
    metrics = json.loads((old / "metrics.json").read_text())
    for name in ("format", "control", "units", "official", "seconds_per_sample"):
        del metrics[name]
    (old / "metrics.json").write_text(json.dumps(metrics))
    found = results.load(folder)
    assert set(found.runs["run_id"]) == {old.name, new.name}
    assert "format" not in found.samples
    assert found.runs.set_index("method").loc["none", "official"] == {}


def test_only_seconds_are_timing():
    assert TIMING_FIELDS == ("seconds", "seconds_per_sample")
    assert without_timing({"seconds": 1.0, "score": 1.0}) == {"score": 1.0}


def test_the_page_has_the_fields_of_the_types():
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run: python scripts/write_results.py"
    assert all(f"| `{name}` |" in text for name in ("evidence_recall", "seconds_per_sample", "control"))

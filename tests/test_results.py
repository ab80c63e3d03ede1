"""Metrics and the table."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from helpers import reducer
from parbench.results.metrics import summarise
from parbench.tables import row, show

FLOPS = {"vision": 5e9, "projector": 1e9, "reducer": 1e8, "llm_prefill": 4e9, "decode": 1e9, "total": 11.1e9}
RUN = {
    "run_id": "0", "model": "m", "method": "random", "dataset": "d", "budget": 64, "chance": 0.25, "patches": 576, "lmms_eval": {},
}  # fmt: skip


def line(score: float, **fields) -> dict:
    return {
        "score": score, "error": None, "unparseable": False, "images": 1, "tokens_kept": 64.0, "skill": "colour", "stages": {},
        "evidence_recall": 0.5, "irrelevant": 0.9, "flops": FLOPS, "seconds": 0.1, **fields,
    }  # fmt: skip


def test_a_failed_sample_stays_in_the_denominator():
    failed = line(
        0.0, error="RuntimeError: no", tokens_kept=None, flops=None, evidence_recall=None, irrelevant=None, images=0
    )
    found = summarise([line(1.0), line(1.0), failed, line(0.0, unparseable=True)], RUN)
    assert found["n"] == 4
    assert found["accuracy"] == 0.5
    assert (found["failures"], found["unparseable"]) == (1, 1)
    assert found["tokens_kept"]["mean"] == 64
    assert found["compression"] == pytest.approx(1 - 64 / 576)


def test_tokens_are_counted_by_image_and_text_only_samples_left_out():
    found = summarise([line(1.0, images=2, tokens_kept=100.0), line(1.0, images=0, tokens_kept=0.0)], RUN)
    assert found["tokens_kept"]["mean"] == 50
    assert found["n"] == 2


def test_skills_are_told_apart():
    found = summarise([line(1.0), line(0.0, skill="count"), line(1.0, skill="count")], RUN)
    assert found["skills"] == {"colour": 1.0, "count": 0.5}


def test_a_row_is_relative_to_none():
    none = summarise([line(1.0, tokens_kept=576.0)], {**RUN, "method": "none", "budget": None})
    none["flops"] = {**FLOPS, "llm_prefill": 34e9, "reducer": 0.0}
    cells = row(summarise([line(1.0), line(0.0)], RUN), none)
    assert cells["method"] == "random @64"
    assert cells["vs none"] == "50.0 %"
    assert cells["saved"] == f"{100 * (1 - 10.1 / 40):.1f} %"


def test_the_table_fits_and_says_what_a_reader_must_know():
    none = summarise([line(1.0, tokens_kept=576.0)], {**RUN, "method": "none", "budget": None})
    par = summarise(
        [line(1.0), line(0.0, error="x", flops=None)], {**RUN, "method": "par", "note": reducer("par").note}
    )
    stream = io.StringIO()
    show([par, none], Console(file=stream, width=120))
    text = stream.getvalue()
    assert text.index("none") < text.index("par @64")
    assert "…" not in text
    assert "PAR (our reading)" in text
    assert "1 failed" in text
    assert "2 per multiply-add" in text
    assert "chance 25.0 %" in text


def test_what_a_reader_has_to_know_is_said_once():
    none = summarise([line(1.0, tokens_kept=576.0)], {**RUN, "method": "none", "budget": None})
    masked = summarise([line(1.0, tokens_kept=576.0)], {**RUN, "method": "yopo", "note": "a simulation"})
    out = io.StringIO()
    show([none, masked, masked], Console(file=out, width=140))
    assert out.getvalue().count("yopo: a simulation") == 1

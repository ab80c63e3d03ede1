"""A run's samples to its metrics."""

from __future__ import annotations

import pytest

from made_runs import sample
from parbench.results.metrics import summarise
from parbench.results.record import SampleRecord

FLOPS = {"vision": 5e9, "projector": 1e9, "reducer": 1e8, "llm_prefill": 4e9, "decode": 1e9, "total": 11.1e9}
RUN = {
    "run_id": "0",
    "model": "m",
    "method": "random",
    "dataset": "d",
    "budget": 64,
    "chance": 0.25,
    "patches": 576,
    "lmms_eval": {},
}


def line(score: float, **fields) -> SampleRecord:
    return sample(
        {
            "score": score,
            "error": None,
            "unparseable": False,
            "images": 1,
            "tokens_kept": 64.0,
            "skill": "colour",
            "stages": {},
            "evidence_recall": 0.5,
            "irrelevant": 0.9,
            "flops": FLOPS,
            "seconds": 0.1,
            **fields,
        }
    )


def test_a_failed_sample_stays_in_the_denominator():
    failed = line(0.0, error="RuntimeError: no", tokens_kept=None, flops=None, evidence_recall=None, irrelevant=None, images=0)
    found = summarise([line(1.0), line(1.0), failed, line(0.0, unparseable=True)], RUN)
    assert found.n == 4
    assert found.accuracy == 0.5
    assert (found.failures, found.unparseable) == (1, 1)
    assert found.tokens_kept["mean"] == 64
    assert found.compression == pytest.approx(1 - 64 / 576)


def test_tokens_are_counted_by_image_and_text_only_samples_left_out():
    found = summarise([line(1.0, images=2, tokens_kept=100.0), line(1.0, images=0, tokens_kept=0.0)], RUN)
    assert found.tokens_kept["mean"] == 50
    assert found.n == 2


def test_skills_are_told_apart():
    found = summarise([line(1.0), line(0.0, skill="count"), line(1.0, skill="count")], RUN)
    assert found.skills == {"colour": 1.0, "count": 0.5}

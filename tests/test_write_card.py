"""scripts/write_card.py puts what runs measured into a model's card."""

from __future__ import annotations

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from parbench.errors import ParbenchError
from paths import ROOT
from write_card import Measured, measured, with_figures

CARD = """---
license: apache-2.0
---
# tiny

<!-- accuracy of scenes -->
<!-- end -->

What follows stays.
"""


def run(accuracy: float, **skills: float) -> pd.Series:
    return pd.Series({"accuracy": accuracy, "skills": skills, "budget": 64.0, "dataset.split": "test"})


def test_the_table_and_the_front_matter_say_what_was_measured():
    told = Measured("scenes", run(0.75, colour=0.5, count=1.0), run(0.25, colour=0.2, count=0.3), run(0.5, colour=0.4, count=0.6))
    card = with_figures(CARD, "tiny", [told])
    assert "| count | 100.0 % | 30.0 % | 25.8 % | 60.0 % |" in card
    assert "| all | 75.0 % | 25.0 % | 29.7 % | 50.0 % |" in card
    assert card.endswith("What follows stays.\n")
    named = {one.metric_name: one.metric_value for one in ModelCard(card).data.eval_results}
    assert named["accuracy, all tokens"] == 0.75
    assert named["accuracy, 64 random tokens"] == 0.5
    assert named["accuracy, count, all tokens"] == 1.0
    assert with_figures(card, "tiny", [told]) == card


def test_a_run_that_is_missing_is_named():
    with pytest.raises(ParbenchError, match=r"one run of method=none with dataset\.images=noise on scenes, but there are 0"):
        measured("llava-tiny", [str(ROOT / "results" / "reference" / "readme"), "budget=64"])
    with pytest.raises(ValueError, match="lacks <!-- accuracy of scenes -->"):
        with_figures("# no marks", "tiny", [Measured("scenes", run(1.0), run(0.5), run(0.5))])

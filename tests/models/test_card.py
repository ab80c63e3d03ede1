"""The front matter of llava-tiny's model card says what the card says."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import ModelCard

from paths import ROOT

PAGE = (ROOT / "src" / "parbench" / "assets" / "llava-tiny" / "README.md").read_text()


def test_the_hub_reads_it_and_its_numbers_are_those_of_the_tables():
    data = ModelCard(PAGE).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "image-text-to-text")
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) % \| .* \| ([\d.]+) % \|$", PAGE, re.MULTILINE)
    full = {name: float(value) for name, value, _ in rows}
    thinned = {name: float(value) for name, _, value in rows}
    assert len(data.eval_results) == len(full) + 1
    for one in data.eval_results:
        words = one.metric_name.split(", ")
        assert (one.metric_type, one.dataset_split, words[0]) == ("accuracy", "test", "accuracy")
        told = {"all tokens": full, "64 random tokens": thinned}[words[-1]]
        assert 100 * one.metric_value == pytest.approx(told[words[1] if len(words) == 3 else "all"])

"""scripts/write_reworded.py: a split in the wordings that are held out from training, as a data set of one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from parbench.scenes.splits import rows
from write_reworded import reworded


@pytest.mark.model
def test_they_ask_the_same_in_other_words():
    told, asked = reworded("val"), list(rows("val"))
    assert [(row["id"], row["image_id"], row["answer"], row["category"], row["boxes"]) for row in told] == [
        (row["question_id"], row["image_id"], row["answer"], row["skill"], row["boxes"]) for row in asked
    ]
    assert not any(row["question"] == own["question"] for row, own in zip(told, asked, strict=True))
    assert min(Counter(row["category"] for row in told).values()) > 100
    assert Path(str(told[0]["image"])).is_file()
    assert reworded("val") == told

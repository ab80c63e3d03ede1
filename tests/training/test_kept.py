"""What is kept of a training in the repository, for going on elsewhere."""

from __future__ import annotations

import json

import pytest

from tiny import continuation
from tiny.loop import learning_rate
from tiny.qwen import recipe


@pytest.mark.parametrize("of", [continuation, recipe], ids=["llava-tiny", "qwen-tiny"])
def test_what_is_kept_fits_the_repository(of):
    kept = of.KEPT
    if not (kept / "state.json").is_file():
        pytest.skip("no training is kept here")
    state = json.loads((kept / "state.json").read_text())
    stage = next(stage for stage in of.STAGES if stage.name == state["stage"])
    assert 0 < state["step"] <= stage.steps
    assert learning_rate(stage, state["step"]) > 0
    assert (kept / "weights.safetensors").stat().st_size < 30e6
    assert all(json.loads(line)["stage"] for line in (kept / "log.jsonl").read_text().splitlines())

"""An evaluation on clips: evidence recall counts tokens of the right frames."""

from __future__ import annotations

import json

import numpy as np
import pytest

from parbench.results.kept_bitmap import kept_bits
from parbench.scenes.splits import load_split

# Qwen2.5-VL: 8 frames of 168 pixels are 4 time steps of 6 x 6 tokens.
STEPS, SIDE, PIXELS = 4, 6, 28


def test_evidence_recall_is_that_of_the_kept_tokens_in_their_frames(run, checkpoint, tmp_path):
    name = "qwen2.5-vl-3b"
    words = [f"model={name}", f"model.path={checkpoint(name)}", "model.dtype=float32", "budget=24", "controls=[]"]
    words += ["dataset=scenes-video", "dataset.split=val", "limit=5", f"results_dir={tmp_path}"]
    run("eval", "-m", "method=random,oracle", *words)
    items = load_split("video-val")[1]
    for method in ("random", "oracle"):
        (folder,) = (file.parent for file in tmp_path.rglob("metrics.json") if json.loads(file.read_text())["method"] == method)
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        assert len(lines) == 5
        for line in lines:
            assert line["error"] is None
            question = items[int(line["id"].rpartition("-")[2])].question
            assert line["question"].startswith(question.text)
            left, needs = kept_bits(line["kept"][0], STEPS * SIDE * SIDE), needed_by(question)
            assert left.sum() == 24
            assert line["evidence_recall"] == pytest.approx((left & needs).sum() / needs.sum())
            if method == "oracle":
                assert (left & needs).sum() == min(24, needs.sum())


def needed_by(question):
    """[144] bool: the tokens that show what a question needs, from its boxes painted into frames."""
    needs = np.zeros((STEPS, SIDE, SIDE), dtype=bool)
    for frame, (x0, y0, x1, y1) in zip(question.frames, question.boxes, strict=True):
        painted = np.zeros((SIDE * PIXELS, SIDE * PIXELS))
        painted[y0:y1, x0:x1] = 1
        share = painted.reshape(SIDE, PIXELS, SIDE, PIXELS).mean((1, 3))
        needs[frame // 2] |= share >= min(0.25, share.max())
    return needs.ravel()

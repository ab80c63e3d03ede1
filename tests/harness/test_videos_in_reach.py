"""Budgets that are out of reach of every video are refused before weights are loaded; of some, the samples fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parbench.models.adapter import ModelAdapter
from videos import write_video

NAME = "qwen2.5-vl-3b"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two short videos and a longer one: 2, 2 and 4 steps of 4 x 4 tokens."""
    counts = (4, 3, 8)
    for number, count in enumerate(counts):
        write_video(tmp_path / f"{number}.mp4", count, size=(112, 112))
    rows = [{"video": f"{number}.mp4", "question": "How bright?", "answer": "dark"} for number in range(len(counts))]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path / "mine.jsonl"


def words(checkpoint, data: Path, *more: str) -> list[str]:
    model = [f"model={NAME}", f"model.path={checkpoint(NAME)}", "model.dtype=float32", "controls=[]", "results_dir=runs"]
    return [*model, "dataset=local", f"dataset.path={data}", *more]


@pytest.fixture
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_settings):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(ModelAdapter, "load", refuse)


@pytest.mark.usefixtures("_no_model")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["method=evs", "budget=0.2"], "budget=0.2 of method evs is out of reach: of a video of 2 frames with 16 tokens each"),
        (["method=few-frames", "budget=20", "method.frames=1"], "budget=20 of method few-frames does not fit into method.frames=1"),
        (["method=fastv", "budget=3"], "budget=3 of method fastv is out of reach"),
    ],
)
def test_a_budget_that_no_video_allows_is_refused_before_weights_are_loaded(run, checkpoint, data, asked, said):
    code, out, err = run("eval", *words(checkpoint, data, *asked))
    assert (code, out) == (2, "")
    assert said in err
    assert err.strip().endswith("no other video of local allows it either")


@pytest.mark.usefixtures("_no_model")
def test_clips_that_are_no_files_have_sizes_too(run, checkpoint):
    words = [f"model={NAME}", f"model.path={checkpoint(NAME)}", "dataset=scenes-video", "limit=4", "results_dir=runs"]
    code, _, err = run("eval", *words, "method=evs", "budget=0.2")
    assert code == 2
    assert err.strip().endswith("no other video of scenes-video allows it either")


def test_a_budget_that_one_video_allows_fails_the_others_alone(run, checkpoint, data):
    # In a sweep, a budget that none allows is left out with a word.
    code, _, err = run("sweep", *words(checkpoint, data, "methods=[evs]", "budgets=[0.3,0.2]"))
    assert code == 0, err
    assert "skipped: budget=0.2 of method evs is out of reach" in err
    (file,) = (one for one in data.parent.glob("runs/*/samples.jsonl") if '"evs"' in (one.parent / "provenance.json").read_text())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["error"] is None for line in lines] == [False, False, True]
    assert lines[0]["error"].startswith("budget=0.3 of method evs is out of reach: of a video of 2 frames")

"""lmms-eval's video tasks on small data in their layout: which file is shown, its frames, and what is said of missing ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parbench.clips import Clip
from parbench.config.plain import option
from parbench.errors import ParbenchError
from parbench.harness.datasets import PreparedDataset
from parbench.lmms_tasks.by_name import settings_of
from videos import write_video

pytestmark = pytest.mark.cli

_OPTIONS = [f"{letter}. {text}" for letter, text in zip("ABCDE", ("up", "down", "left", "right", "no way"), strict=True)]
_NAMED = {"question": "Which way?", "video_name": "one.mp4"}
# For each task the row of a question, where its video is in the folder, and the right answer.
TASKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "videomme": (
        {
            "videoID": "one",
            "question": "Which way?",
            "options": _OPTIONS[:4],
            "answer": "B",
            "domain": "Knowledge",
            "sub_category": "Astronomy",
            "task_type": "Counting Problem",
            "duration": "short",
            "question_id": "1-1",
        },
        "data/one.mp4",
        "B",
    ),
    "mvbench_moving_direction": (
        {"video": "one.mp4", "question": "Which way?", "candidates": ["up", "down"], "answer": "down"},
        "clevrer/video_validation/one.mp4",
        "B",
    ),
    "longvideobench_val_v": (
        {
            "id": "1",
            "video_path": "one.mp4",
            "question": "Which way?",
            **{f"option{number}": text for number, text in enumerate(("up", "down", "left", "N/A", "N/A"))},
            "correct_choice": 1,
            "duration_group": 15,
            "question_category": "S2E",
        },
        "videos/one.mp4",
        "B",
    ),
    "mlvu_dev": ({**_NAMED, "answer": "B", "task_type": "count"}, "one.mp4", "B"),
    "egoschema_subset": ({"video_idx": "one", "question": "Which way?", "option": _OPTIONS, "answer": "1"}, "videos/one.mp4", "B"),
    "nextqa_mc_test": (
        {"video": "one", "question": "Which way?", **{f"a{n}": text for n, text in enumerate("vwxyz")}, "answer": 1, "qid": 1},
        "NExTVideo/one.mp4",
        "B",
    ),
    "perceptiontest_val_mc": (
        {
            "video_name": "one",
            "question": "Which way?",
            "options": ["up", "down", "left"],
            "answer_id": "1",
            "question_id": "1",
            "area": "a",
            "reasoning": "r",
            "tag": ["t"],
        },
        "videos/one.mp4",
        "B",
    ),
}


def prepared(name: str, folder: Path, **more: Any) -> PreparedDataset:
    settings = option("dataset", name) if name in ("videomme", "longvideobench_val_v") else None
    settings = settings or {**settings_of(name), "max_new_tokens": None}
    row = TASKS[name][0]
    (folder / f"{settings['split']}.jsonl").write_text("\n".join(json.dumps(row) for _ in range(2)))
    path = folder / f"{settings['split']}.jsonl"
    return PreparedDataset({**settings, "path": str(path), "config": None, "frames": 4, **more})


@pytest.mark.parametrize("name", TASKS)
def test_a_task_shows_the_frames_of_its_video(name: str, tmp_path: Path) -> None:
    _, place, right = TASKS[name]
    videos = tmp_path / "unpacked"
    (videos / place).parent.mkdir(parents=True)
    data = prepared(name, tmp_path, videos=str(videos))
    with pytest.raises(ParbenchError, match=r"give the folder in their place as dataset\.videos=FOLDER"):
        data.check()
    write_video(videos / place)
    data = prepared(name, tmp_path, videos=str(videos))
    data.check()
    (clip,) = data.visuals(0)
    assert isinstance(clip, Clip)
    assert (len(clip.frames), clip.size) == (4, (64, 48))
    assert data.group(0) == data.group(1)
    doc = data.docs()[0]
    assert "Which way?" in data.question(doc)
    assert (data.score(doc, right), data.score(doc, "C" if name != "mvbench_moving_direction" else "A")) == (1.0, 0.0)
    # Where the videos are does not matter; what they are does.
    assert "unpacked" not in json.dumps(data.deciding)
    before = data.deciding["videos"]
    write_video(videos / place, 15)
    assert prepared(name, tmp_path, videos=str(videos)).deciding["videos"] != before

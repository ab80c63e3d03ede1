"""scenes: fixed, balanced, answerable from the image alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parbench.errors import ParbenchError
from parbench.scenes import splits
from parbench.scenes.questions import NEGATIVES, SKILLS
from parbench.scenes.render import render
from parbench.scenes.world import CANVAS
from tiny.vision_stage import TRAIN_SEEDS


@pytest.fixture(scope="module")
def test_rows():
    return list(splits.rows("test"))


def test_the_test_split_is_large_enough(test_rows):
    assert len({row["image_id"] for row in test_rows}) >= 300
    assert len(test_rows) >= 3000
    per_image = Counter(row["image_id"] for row in test_rows)
    assert np.mean(list(per_image.values())) > 9
    assert {row["skill"] for row in test_rows} == set(SKILLS)


@pytest.mark.parametrize("name", ["val", "test"])
def test_what_is_built_has_the_recorded_fingerprint(name):
    # data_folder checks; built a second time it has to be found as it is.
    folder = splits.data_folder(name)
    splits.check_folder(folder, name)
    assert folder == splits.data_folder(name)


def test_a_changed_picture_is_noticed(tmp_path):
    import shutil

    folder = tmp_path / "val"
    shutil.copytree(splits.data_folder("val"), folder)
    picture = folder / "images" / "val-0007.png"
    pixels = np.asarray(Image.open(picture)).copy()
    pixels[100, 100] ^= 1
    Image.fromarray(pixels).save(picture)
    with pytest.raises(ParbenchError, match=r"has fingerprint .* is recorded"):
        splits.check_folder(folder, "val")


def test_splits_and_training_never_share_a_seed():
    ranges = [(split.first_seed, split.first_seed + split.images) for split in splits.SPLITS.values()]
    held_out = [ends for name, ends in zip(splits.SPLITS, ranges, strict=True) if name != "train"]
    for start, end in held_out:
        assert end <= TRAIN_SEEDS[0] or start >= TRAIN_SEEDS[1]
    for one, other in zip(sorted(ranges), sorted(ranges)[1:], strict=False):
        assert one[1] <= other[0]


def test_existence_is_half_yes_with_three_sorts_of_no(test_rows):
    asked = [row for row in test_rows if row["skill"] == "existence"]
    details = Counter(row["detail"] for row in asked)
    assert details["yes"] / len(asked) == pytest.approx(0.5, abs=0.01)
    for kind in NEGATIVES:
        assert details[kind] / len(asked) == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.parametrize("skill", ["colour", "shape", "count", "position", "relation"])
def test_answers_are_balanced_within_a_skill(skill, test_rows):
    answers = Counter(row["answer"] for row in test_rows if row["skill"] == skill)
    even = sum(answers.values()) / len(answers)
    assert max(answers.values()) < 1.35 * even


def test_guessing_from_the_question_alone_is_near_chance():
    blind = splits.blind_majority()
    assert set(blind) == {*SKILLS, "all"}
    assert blind["all"] <= 0.35
    for skill, chance in splits.chance().items():
        assert blind[skill] <= chance + 0.12


def test_boxes_lie_on_the_canvas_and_show_what_is_asked_about(test_rows):
    for row in test_rows:
        for x0, y0, x1, y1 in row["boxes"]:
            assert 0 <= x0 < x1 <= CANVAS
            assert 0 <= y0 < y1 <= CANVAS
        absent = row["skill"] == "existence" and row["answer"] == "no"
        assert bool(row["boxes"]) != absent


def test_counts_are_the_number_of_boxes(test_rows):
    assert all(int(row["answer"]) == len(row["boxes"]) for row in test_rows if row["skill"] == "count")


def test_a_question_is_asked_once_of_an_image(test_rows):
    asked = defaultdict(list)
    for row in test_rows:
        asked[row["image_id"]].append(row["question"])
    assert all(len(set(texts)) == len(texts) for texts in asked.values())


def test_rendering_is_deterministic():
    scene = splits.load_split("val")[0][3]
    assert np.array_equal(render(scene)[0], render(scene)[0])


def test_an_unknown_split_is_said():
    with pytest.raises(ParbenchError, match="did you mean test"):
        splits.load_split("tset")


def test_fingerprints_are_of_all_splits():
    assert set(splits.recorded_fingerprints()) == set(splits.SPLITS)
    assert json.dumps(splits.recorded_fingerprints())


@pytest.mark.long
def test_two_jobs_that_build_a_split_at_the_same_time_do_not_meet(tmp_path):
    command = [sys.executable, "-c", "from parbench.scenes.splits import data_folder; print(data_folder('val'))"]
    environment = {**os.environ, "PARBENCH_CACHE": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=120)[0].strip() for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert said[0] == said[1]
    splits.check_folder(Path(said[0]), "val")
    # Nothing is left of the one that came second.
    assert list((tmp_path / "scenes").iterdir()) == [Path(said[0])]

"""The train split of easy-VQA as training data. Each image shows one shape, partly in words and colours that ``scenes`` lacks.

The data are from the package ``easy-vqa``. Its test split is not used in training, since it measures generalisation.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from parbench.errors import ParbenchError
from parbench.scenes.questions import Question
from parbench.scenes.world import CANVAS, PATCH, Scene
from tiny.loop import Stage
from tiny.sequences import Lesson, thin_at_random
from tiny.tower import colour_label, kind_label
from tiny.vision_stage import IGNORE, Picture, label_patches, patch_owner

SKILL = "easy-vqa"
OUTSIDE_SHAPES = ("circle", "rectangle", "triangle")
OUTSIDE_COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
# Number of images at the end of the train split that are used for validation.
VALIDATION = 200
# A pixel belongs to the shape if its three channels differ from the background by more than this in total.
_DIFFERENT = 40


def _folder() -> Path:
    spec = find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise ParbenchError("this stage trains on easy-VQA: pip install -c requirements.lock -e '.[train]'")
    return Path(spec.origin).parent / "data" / "train"


@lru_cache(maxsize=1)
def questions() -> dict[int, list[Question]]:
    """The questions of the train split, by number of the image.

    Raises:
        ParbenchError: easy-vqa is not installed.
    """
    found: dict[int, list[Question]] = {}
    for text, answer, number in json.loads((_folder() / "questions.json").read_text()):
        found.setdefault(number, []).append(Question(SKILL, kind_of(text, answer), text, answer, ()))
    return found


def kind_of(text: str, answer: str) -> str:
    """The kind of a question of easy-VQA: ``shape``, ``colour``, or ``yes-no``."""
    if answer in OUTSIDE_SHAPES:
        return "shape"
    return "colour" if answer in OUTSIDE_COLOURS else "yes-no"


@lru_cache(maxsize=512)
def outside_picture(number: int) -> Picture:
    """An image of the train split in the size of the model's input, with labels of the patches that show the shape."""
    with Image.open(_folder() / "images" / f"{number}.png") as image:
        large = np.asarray(image.convert("RGB").resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))
    ground = large[PATCH // 2, PATCH // 2].astype(int)
    owner = patch_owner((np.abs(large.astype(int) - ground).sum(axis=2) > _DIFFERENT).astype(np.int16))
    scene = Scene(number, (), ())
    labels = label_patches(scene, owner)
    known = {question.detail: question.answer for question in questions()[number]}
    mine = owner > 0
    labels["kind"][mine] = kind_label(known["shape"]) if "shape" in known else IGNORE
    if "colour" in known:
        labels["colour"][mine] = colour_label(known["colour"])
    return Picture(scene, large, owner, labels)


def trained() -> list[int]:
    """Numbers of the images for training."""
    return sorted(questions())[:-VALIDATION]


def held_out() -> list[int]:
    """Numbers of the images of the train split for validation."""
    return sorted(questions())[-VALIDATION:]


def draw_outside(rng: np.random.Generator, stage: Stage) -> Lesson:
    """Draw images and questions of a step from easy-VQA's train split."""
    numbers = rng.choice(trained(), size=stage.batch)
    pictures = [outside_picture(int(number)) for number in numbers]
    asked = []
    for number in numbers:
        offered = questions()[int(number)]
        picked = rng.choice(len(offered), size=min(stage.questions, len(offered)), replace=False)
        asked.append([offered[index] for index in picked])
    thinning = None
    if rng.random() < stage.thinned:
        thinning = thin_at_random(rng, pictures, int(rng.integers(100, 400)), bool(rng.random() < 0.5))
    return Lesson(pictures, asked, thinning, labelled=False)

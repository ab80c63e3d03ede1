"""Files in the schemas of benchmarks with official scores."""

from __future__ import annotations

import random
from pathlib import Path

from small_data import png

COLOURS = ("red", "blue", "green", "white")


def saved(folder: Path, split: str, rows: list[dict]) -> Path:
    from datasets import Dataset
    from datasets import Image as ImageFeature

    folder.mkdir(parents=True, exist_ok=True)
    data = Dataset.from_list(rows)
    if "image" in data.features:
        data = data.cast_column("image", ImageFeature())
    data.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def mmbench(folder: Path, questions: int, *, text: bool = False, split: str = "dev", seed: int = 0) -> Path:
    """The hub's schema: questions of two to four options, each with all of its rotations, which lie anywhere."""
    rows = []
    for question in range(questions):
        options = list(COLOURS[: 2 + question % 3])
        for turn in range(len(options)):
            turned = options[turn:] + options[:turn]
            index = question + 1_000_000 * turn
            rows.append(
                {
                    "index": str(index) if text else index,
                    "question": f"Which colour is circle {question}?",
                    "hint": "nan" if question % 2 else "There is one circle.",
                    "answer": "nan" if split == "test" else "ABCD"[turned.index(options[question % len(options)])],
                    **{letter: turned[place] if place < len(turned) else "nan" for place, letter in enumerate("ABCD")},
                    "category": ("color", "shape")[question % 2],
                    "image": {"bytes": png(COLOURS[question % 4]), "path": None},
                    "source": "made",
                    "L2-category": "perception",
                    "comment": "nan",
                    "split": split,
                }
            )
    random.Random(seed).shuffle(rows)
    return saved(folder, split, rows)


def pope(folder: Path, images: int) -> Path:
    rows = [
        {
            "id": str(number),
            "question_id": str(number),
            "question": "Is there a dog in the image?",
            "answer": ("yes", "no")[number % 2],
            "image_source": f"COCO_{number // 6}",
            "image": {"bytes": png("red"), "path": None},
            "category": ("random", "popular", "adversarial")[number // 2 % 3],
        }
        for number in range(6 * images)
    ]
    return saved(folder, "test", rows)

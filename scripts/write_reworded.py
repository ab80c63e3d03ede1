"""Writes a split of scenes in the wordings that are held out from llava-tiny's training, as a data set of one's own.

    python scripts/write_reworded.py test results/reworded-test.jsonl
    parbench eval method=none dataset=local dataset.path=results/reworded-test.jsonl dataset.suffix=''

The questions ask the same as those of the split, about the same images. Each has one of its skill's held-out wordings
(``HELD_OUT`` in ``parbench.scenes.wordings``), drawn from a fixed seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from parbench.scenes.splits import data_folder, load_split, rows
from parbench.scenes.wordings import HELD_OUT, reword

SEED = 6


def reworded(split: str) -> list[dict[str, object]]:
    """The rows of a split of images for ``dataset=local``, with the paths of their images."""
    images = data_folder(split) / "images"
    return [
        {
            "id": row["question_id"],
            "image_id": row["image_id"],
            "image": str(images / row["image"]),
            "question": reword(item.question, np.random.default_rng([number, SEED]), HELD_OUT).text,
            "answer": row["answer"],
            "category": row["skill"],
            "boxes": row["boxes"],
        }
        for number, (row, item) in enumerate(zip(rows(split), load_split(split)[1], strict=True))
    ]


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=("val", "test"))
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(json.dumps(row) + "\n" for row in reworded(given.split)), encoding="utf-8")
    print(given.out)


if __name__ == "__main__":
    main()

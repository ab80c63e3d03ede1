"""``scenes`` as a ``datasets.Dataset``."""

from __future__ import annotations

from typing import Any

from parbench.scenes.splits import data_folder


def load_scenes(split: str, skill: str | None = None) -> Any:
    """The questions of a split, with images as image features, which are decoded on access.

    Args:
        split: One of ``parbench.scenes.splits.SPLITS``.
        skill: Only the questions of this skill.

    Raises:
        ParbenchError: The split is unknown, or the built one differs from the recorded one.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset, Image

    folder = data_folder(split)
    rows = [row for row in pq.read_table(folder / "questions.parquet").to_pylist() if skill in (None, row["skill"])]
    for row in rows:
        row["image"] = str(folder / "images" / row["image"])
    return Dataset.from_list(rows).cast_column("image", Image())

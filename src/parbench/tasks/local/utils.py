"""Functions of the task ``local``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from parbench.harness.local.scoring import SCORINGS
from parbench.harness.local.videos import VIDEOS

__all__ = ["doc_to_visual", "mean_score", "process_results"]


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image | str]:
    """The images of a question, in order, then the paths of its videos."""
    images = doc["image"] if isinstance(doc["image"], list) else [doc["image"]]
    return [*(image.convert("RGB") for image in images if image is not None), *(doc.get(VIDEOS) or ())]


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, dict[str, Any]]:
    """The answer's score by the row's own scoring; with the image, by which errors are clustered."""
    return {"accuracy": {"score": SCORINGS[doc["scoring"]](results[0], doc), "image_id": doc["image_id"]}}


def mean_score(items: list[Mapping[str, Any]]) -> float:
    """Mean of the scores."""
    return float(sum(item["score"] for item in items) / len(items))

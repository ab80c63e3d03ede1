"""Functions of the ``scenes`` tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from parbench.clips import Clip
from parbench.harness.lmms_task import ScenesTask
from parbench.scenes.video.render import clip_of

__all__ = ["ScenesTask", "doc_to_clip", "doc_to_visual", "mean_score", "process_results"]


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The one image of a question."""
    return [doc["image"].convert("RGB")]


def doc_to_clip(doc: Mapping[str, Any]) -> list[Clip]:
    """The one clip of a question, cut from its film strip."""
    return [clip_of(doc["image"].convert("RGB"))]


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, dict[str, Any]]:
    """Exact match, letter case and a final full stop aside; with the image, by which errors are clustered."""
    said, right = (text.strip().rstrip(".").strip().lower() for text in (results[0], doc["answer"]))
    return {"exact_match": {"score": float(said == right), "image_id": doc["image_id"]}}


def mean_score(items: list[Mapping[str, Any]]) -> float:
    """Mean of the scores."""
    return float(sum(item["score"] for item in items) / len(items))

"""Data sets of a few questions, and what an evaluation of them left."""

from __future__ import annotations

import io
import json

from PIL import Image

from helpers import identity_of
from parbench.results.record import TIMING_FIELDS


def lines(folder) -> dict[str, list[dict]]:
    """samples.jsonl by method, timing aside."""
    found = {}
    for path in folder.glob("*/samples.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        method = identity_of(path.parent)["method"]["name"]
        found[method] = [{key: value for key, value in row.items() if key not in TIMING_FIELDS} for row in rows]
    return found


def metrics(folder) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in folder.glob("*/metrics.json")]
    return {run["method"]: run for run in found}


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, "PNG")
    return stream.getvalue()


def pope(folder, rows=None):
    """A local file in the schema of the hub's POPE."""
    from datasets import Dataset
    from datasets import Image as ImageFeature

    colours = ("red", "blue", "green")
    rows = rows or [
        {
            "question_id": str(number),
            "question": f"Is there a {colours[number % 3]} circle in the image?",
            "answer": "yes" if number % 2 else "no",
            "image_source": f"COCO_{number // 2}",
            "image": {"bytes": png(colours[number // 2 % 3]), "path": None},
            "category": "random",
        }
        for number in range(6)
    ]
    data = Dataset.from_list(rows)
    if "image" in data.features:
        data = data.cast_column("image", ImageFeature())
    folder.mkdir(exist_ok=True)
    data.to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


def scored(run, folder, *words):
    code, _, err = run("eval", "method=random", "budget=64", "controls=[]", "results_dir=runs", *words)
    assert code == 0, err
    return metrics(folder / "runs")["random"], lines(folder / "runs")["random"]

"""What the viewer of kept tokens holds: some images, their questions, and what each run kept and answered."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from parbench.errors import ParbenchError
from parbench.figures.images import SIDE, Images, by_question, single
from parbench.figures.sweep import Sweep
from parbench.results.naming import sample_number

SEED = 0
# Bytes of masks and answers; images are left out until it holds.
_MOST = 6_000_000
_QUALITY = 82


def viewer(sweep: Sweep, images: Images, most: int) -> dict[str, Any]:
    """Images drawn with a seed, with all of their questions.

    Args:
        sweep: The runs.
        images: Their images.
        most: So many images at most.

    Raises:
        ParbenchError: No question has exactly one image.
    """
    samples = single(sweep.answers.frame)
    names = sorted(samples["image_id"].unique())
    if not names:
        raise ParbenchError("no question has exactly one image")
    drawn = np.random.default_rng(SEED).permutation(names)[:most].tolist()
    while True:
        found = _shown(sweep, images, samples, drawn)
        if len(drawn) == 1 or sum(map(len, found["masks"])) + 24 * sum(map(len, found["answers"])) <= _MOST:
            break
        drawn = drawn[: max(1, len(drawn) * 3 // 4)]
    said = "all" if len(drawn) == len(names) else f"{len(drawn)} of the"
    found["rule"] = f"Shown: {said} {len(names)} images" + (f", drawn with seed {SEED}." if len(drawn) < len(names) else ".")
    return found


def _shown(sweep: Sweep, images: Images, samples: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    mine = samples[samples["image_id"].isin(names)]
    questions = mine.drop_duplicates("id")
    order = pd.Categorical(questions["image_id"], categories=list(names), ordered=True)
    questions = questions.assign(order=order).sort_values(["order", "id"], key=_numbered)
    first = questions.drop_duplicates("image_id")
    place = {name: number for number, name in enumerate(first["image_id"])}
    masks: dict[str, int] = {}
    predictions: dict[str, int] = {}
    lines = by_question(mine)
    answers = []
    for run in sweep.points["run_id"]:
        answers.append([_answer(lines, (run, question), masks, predictions) for question in questions["id"]])
    return {
        "side": SIDE,
        "grid": list(images.grid),
        "images": [{"name": row["image_id"], "src": _embedded(images.image(row["id"]))} for _, row in first.iterrows()],
        "questions": [
            {
                "image": place[row["image_id"]],
                "text": row["question"],
                "skill": None if pd.isna(row["skill"]) else row["skill"],
                "target": str(row["target"]),
                "boxes": images.boxes(row["id"]),
            }
            for _, row in questions.iterrows()
        ],
        "masks": [base64.b64encode(np.packbits(images.kept(mask)).tobytes()).decode() for mask in masks],
        "predictions": list(predictions),
        "answers": answers,
    }


def _numbered(column: pd.Series) -> pd.Series:
    """Ids by their number, everything else as it is."""
    return column.map(sample_number) if column.name == "id" else column


def _answer(
    lines: Mapping[tuple[str, str], Mapping[str, Any]],
    key: tuple[str, str],
    masks: dict[str, int],
    predictions: dict[str, int],
) -> list[Any] | None:
    """[mask, prediction, score, tokens, evidence recall]; None where the run has none."""
    line = lines.get(key)
    if line is None:
        return None
    mask = masks.setdefault(line["kept"][0], len(masks))
    said = predictions.setdefault(line["prediction"].strip(), len(predictions))
    recall = None if pd.isna(line["evidence_recall"]) else round(float(line["evidence_recall"]), 3)
    return [mask, said, float(line["score"]), round(float(line["tokens_kept"]), 1), recall]


def _embedded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

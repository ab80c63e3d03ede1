"""Pictures and the report of a model that sees an image in several parts: from an evaluation to the page."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

import family_miniatures
from parbench.figures.images import Images
from parbench.figures.sweep import COLUMNS, sweep_of
from parbench.figures.views import sheet
from parbench.report import kept
from parbench.results import load
from parbench.results.kept_bitmap import kept_bits

SIZES = [(60, 60), (300, 100)]


@pytest.fixture
def data(folder):
    """Two questions about each of two images, with a box around what they are about."""
    rows = []
    for number, (width, height) in enumerate(SIZES):
        image = Image.new("RGB", (width, height), (90, 140, 200))
        box = [0.6 * width, 0.1 * height, 0.9 * width, 0.6 * height]
        ImageDraw.Draw(image).rectangle(tuple(box), fill=(230, 60, 40))
        image.save(folder / f"{number}.png")
        for question in ("What colour is the square?", "Is there a square?"):
            rows.append({"image": f"{number}.png", "question": question, "answer": "red", "boxes": [box]})
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "mine.jsonl"


def test_an_evaluation_of_llava_next_is_drawn_on_the_whole_image(run, folder, data):
    family_miniatures.write("llava-next-7b", folder / "next")
    words = ("model=llava-next-7b", "model.path=next", "model.dtype=float32", "dataset=local", f"dataset.path={data}")
    code, _, err = run("eval", *words, "method=random", "controls=[]", "budget=0.25", "results_dir=runs")
    assert code == 0, err
    code, _, err = run("show", *words, "method=random", "budget=0.25", "sample=3", "out=kept.png")
    assert code == 0, err
    with Image.open(folder / "kept.png") as drawn:
        assert drawn.width > 2 * drawn.height

    sweep = sweep_of(load(folder / "runs", columns=COLUMNS))
    images = Images(sweep)
    frame = sweep.answers.frame
    random = frame[frame["run_id"] == sweep.points.loc[sweep.points["method"] == "random", "run_id"].iloc[0]]
    for line in random.to_dict("records"):
        seen = images.view(line["id"])
        assert seen.image.size == seen.layout.size
        held = kept_bits(line["kept"][0], seen.layout.tokens)
        # An evidence box has the same place in the image and among the tokens.
        (box,) = images.boxes(line["id"])
        assert np.asarray(seen.image)[round((box[1] + box[3]) / 2), round((box[0] + box[2]) / 2)].tolist() == [230, 60, 40]
        width, height = seen.image.size
        assert sheet(seen, held.astype(float)).pixels.shape == (round(336 * height / width), 336, 3)

    page = kept.answers(sweep, images, None, 8)
    assert sorted(layout["size"] for layout in page["pictures"]["layouts"]) == [list(size) for size in sorted(SIZES)]
    assert page["pictures"]["tokens"] == max(images.layout(size).tokens for size in SIZES)
    code, _, err = run("report", "runs", "out=report.html")
    assert code == 0, err
    assert "at a lower resolution" in (folder / "report.html").read_text(encoding="utf-8")
    line = next((folder / "runs").glob("*/samples.jsonl")).read_text(encoding="utf-8").partition("\n")[0]
    assert re.search('"evidence_recall_any": [01]', line)

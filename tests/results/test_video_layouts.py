"""Pictures of videos: frames on a sheet, and their tokens on the frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from parbench.clips import Clip, sheet
from parbench.models.source import Part, grids
from parbench.results.layouts import Layout, pictured, pictured_boxes


def clip(frames: int) -> Clip:
    return Clip(tuple(Image.new("RGB", (40, 20), (10 * frame, 0, 0)) for frame in range(frames)), tuple(map(float, range(frames))))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 16, 30])
def test_a_sheet_has_full_rows_and_a_size_of_its_own(count):
    (width, height), places = sheet((40, 20), count)
    assert len(set(places)) == count
    assert max(left for left, _ in places) + 40 == width
    assert max(top for _, top in places) + 20 == height
    assert len({sheet((40, 20), other)[0] for other in range(1, 65)}) == 64


@pytest.mark.parametrize(("frames", "steps"), [(8, 8), (8, 4), (5, 3), (1, 1)])
def test_tokens_lie_on_the_frame_that_they_show(frames, steps):
    source = grids((40, 20), [Part("frame", 2, 4, (0, 0, 40, 20), float(step)) for step in range(steps)])
    layout = Layout.of(source)
    image = pictured(clip(frames), source.frames)
    assert image.size == layout.size
    pixels = np.asarray(image)
    run = -(-frames // steps)
    for token, (left, top, right, bottom) in enumerate(layout.boxes):
        shown = pixels[int(top) : int(bottom), int(left) : int(right), 0]
        assert shown.min() == shown.max() == 10 * min(token // 8 * run, frames - 1)


def test_boxes_lie_on_their_frame():
    boxes, frames = [(0, 0, 4, 4), (1, 1, 5, 5), (2, 2, 6, 6), (3, 3, 7, 7)], [2, 3, 5, 5]
    # Of frames 2 and 3 the sheet shows 2; of 4 and 5, which frame 4 stands for, 5 alone has boxes.
    assert pictured_boxes(clip(8), 4, boxes, frames) == [[42, 0, 46, 4], [2, 24, 6, 28], [3, 25, 7, 29]]
    assert pictured_boxes(clip(8), None, boxes, frames)[0] == [84, 0, 88, 4]
    assert pictured_boxes(clip(8), None, [], []) == []
    assert pictured_boxes(Image.new("RGB", (40, 20)), None, boxes[:1], None) == [[0, 0, 4, 4]]

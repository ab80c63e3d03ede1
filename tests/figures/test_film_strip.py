"""Film strips: each frame once, with the boxes that belong to it."""

from __future__ import annotations

from matplotlib.patches import Rectangle
from PIL import Image

from parbench.clips import Clip
from parbench.figures.film_strip import Strip, strips_figure


def test_boxes_are_drawn_into_their_frames():
    clip = Clip(tuple(Image.new("RGB", (40, 20), (number, 0, 0)) for number in range(3)), (0.0, 0.5, 1.0))
    figure = strips_figure([Strip(clip, "Which $way?", [(4, 2, 10, 8), (0, 0, 5, 5)], [2, 0]), Strip(clip, "Nothing")])
    assert [text.get_text() for text in figure.texts] == ["Which $way?", "Nothing"]
    frames = figure.axes
    assert [axis.get_images()[0].get_array()[0, 0, 0] for axis in frames] == [0, 1, 2, 0, 1, 2]
    found = [[patch.get_bbox().bounds for patch in axis.patches if isinstance(patch, Rectangle)] for axis in frames]
    assert found == [[(-0.5, -0.5, 5, 5)], [], [(3.5, 1.5, 6, 6)], [], [], []]
    figure.canvas.draw()

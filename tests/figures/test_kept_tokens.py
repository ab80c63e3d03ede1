"""Pictures of kept tokens: in every family, what is clear is what the kept tokens show."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from painting import blind, features_of
from parbench.figures.kept_tokens import kept_figure
from parbench.figures.views import SIDE, View, sheet, view, whole_view
from parbench.models.adapter import ModelAdapter
from parbench.results.layouts import Grid, Layout, square_layout


@cache
def adapter_of(name: str) -> ModelAdapter:
    model, processor, _ = zoo.FAMILIES[name]()
    return ModelAdapter(model, processor, name=name)


def panels(seen: View, share: np.ndarray) -> list[np.ndarray]:
    """The panels [H, W, 3] of the figure that have dimmed tokens: of the finest, and of coarser ones if there are any."""
    return [axis.images[0].get_array() for axis in kept_figure(seen, share, "a title", "a question").axes[1:]]


@pytest.mark.parametrize("size", [(130, 60), (60, 170)], ids=str)
@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl", "internvl", "idefics3", "gemma3"])
def test_the_picture_of_the_token_that_a_painted_spot_changes_most_shows_the_spot(name, size):
    adapter = adapter_of(name)
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    random = np.random.default_rng(0)
    with torch.inference_mode(), blind(adapter):
        before, source = features_of(adapter, grey)
        for box in random.permutation(source.box[source.content].numpy())[:4]:
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            spot = grey.copy()
            spot[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = random.integers(0, 256, 3)
            changed = int((features_of(adapter, spot)[0] - before).norm(dim=1).argmax())
            share = np.zeros(len(before))
            share[changed] = 1
            seen = view(Image.fromarray(spot), source, [], adapter.geometry.square)
            drawn = panels(seen, share)
            mine = drawn[0 if seen.layout.fine[changed] else 1]
            assert np.allclose(mine[y, x], spot[y, x] / 255)
            # All else is dark: the token's box, and whole pixels on its edges, are all that is clear.
            left, top, right, bottom = seen.layout.boxes[changed]
            clear = (mine > 0.9 * spot / 255).all(axis=2)
            assert 0 < clear.sum() <= (right - left + 1) * (bottom - top + 1)
            assert not any((other > 0.9 * spot / 255).all(axis=2).any() for other in drawn if other is not mine)


def test_keeping_everything_dims_nothing():
    for name in ("llava", "idefics3", "internvl", "qwen2_5_vl"):
        adapter = adapter_of(name)
        image = zoo.image(130, 60)
        seen = view(image, adapter.family.tokens_of(image.size).source, [], adapter.geometry.square)
        pixels = np.asarray(seen.image) / 255
        assert all(np.allclose(panel, pixels) for panel in panels(seen, np.ones(seen.layout.tokens)))


def test_llava_is_shown_its_centre_square_and_others_all_of_an_image():
    adapter, image = adapter_of("llava"), zoo.image(130, 60)
    square = view(image, adapter.family.tokens_of(image.size).source, [], adapter.geometry.square)
    assert square.image.size == (SIDE, SIDE)
    assert square.layout == square_layout(SIDE, 4, 4)
    other = adapter_of("internvl")
    whole = view(image, other.family.tokens_of(image.size).source, [], other.geometry.square)
    assert whole.image.size == (130, 60)


def test_evidence_boxes_lie_on_the_same_pixels_of_a_large_image_made_smaller():
    pixels = np.zeros((1000, 4000, 3), np.uint8)
    pixels[500:750, 1000:2000] = 255
    seen = whole_view(Image.fromarray(pixels), Layout((4000, 1000), ()), [(1000, 500, 2000, 750)])
    figure = kept_figure(seen, np.zeros(0), "a title", "a question")
    (frame,) = figure.axes[0].patches
    (left, top), wide, high = frame.get_xy(), frame.get_width(), frame.get_height()
    assert seen.image.width == 1024
    assert [left + 0.5, top + 0.5, wide, high] == pytest.approx([256, 128, 256, 64])
    white = np.argwhere(np.asarray(seen.image)[..., 0] > 200)
    assert white.min(axis=0).tolist() == pytest.approx([128, 256], abs=1)


def test_a_sheet_has_the_coarser_tokens_small_beside_the_finest():
    grids = (Grid("thumbnail", False, (0, 100), (0, 50)), Grid("tile", True, (0, 50, 100), (0, 50)))
    seen = View(Image.new("RGB", (100, 50), "red"), Layout((100, 50), grids), [(50, 0, 100, 50)])
    drawn = sheet(seen, np.array([1.0, 0.0, 1.0]))
    clear = (np.abs(drawn.pixels - [1, 0, 0]) < 0.1).all(axis=2)
    ((left, top, right, bottom),) = drawn.boxes
    inside = clear[round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2]
    assert inside.all()
    assert not clear[:, : round(left) - 2].any()
    beside = np.argwhere(clear[:, round(right) + 3 :])
    assert 0.2 < np.ptp(beside[:, 1]) / np.ptp(np.argwhere(clear[:, : round(right)])[:, 1]) < 1
    whole = sheet(seen).pixels
    assert whole.shape == (SIDE // 2, SIDE, 3)
    assert np.allclose(whole, [1, 0, 0])

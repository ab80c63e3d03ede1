"""The parts of images as methods see them, on the zoo's processors."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import zoo
from parbench.clips import Clip
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.parts import Parts
from parbench.reducers.token_probes import Probes


@cache
def adapter_of(name: str) -> ModelAdapter:
    model, processor, _ = zoo.FAMILIES[name]()
    return ModelAdapter(model, processor, name=name)


def parts_of(name: str, *size: int) -> Parts:
    return Parts.of(adapter_of(name).prepare(zoo.image(*size, 1)).tokens.source)


CUT = ("llava_next", "llava_onevision", "internvl", "smolvlm")


@pytest.mark.parametrize("name", CUT)
def test_details_form_one_canvas_in_the_order_in_which_they_show_the_image(name):
    source = adapter_of(name).prepare(zoo.image(130, 60, 1)).tokens.source
    parts = Parts.of(source)
    assert parts.parts[parts.overview].kind in ("base", "thumbnail")
    (rows, columns), row, column = parts.canvas()
    detail = parts.part != parts.overview
    assert rows * columns == int(detail.sum())
    assert len((row * columns + column)[detail].unique()) == rows * columns
    centre = source.box[source.content][:, :2] + source.box[source.content][:, 2:]
    for lines, axis in ((row, 1), (column, 0)):
        order = lines[detail].argsort(stable=True)
        # Boxes are clipped to the image, so lines may share an edge but never swap.
        means = [float(centre[detail][lines[detail] == line, axis].mean()) for line in range(int(lines[detail].max()) + 1)]
        assert means == sorted(means), order


@pytest.mark.parametrize("name", CUT)
def test_the_details_show_the_overview_once(name):
    parts = parts_of(name, 112, 84)
    shown, overview = parts.shown(), parts.parts[parts.overview]
    assert shown.shape == (parts.sizes[parts.overview], len(parts.details))
    assert torch.allclose(shown.sum(1), torch.ones(len(shown), dtype=torch.float64))
    assert float(shown.sum(0).min()) > 0
    corners = [0, overview.columns - 1, len(shown) - 1]
    first, right, last = (parts.parts[parts.details[int(shown[corner].argmax())]].box for corner in corners)
    assert first[:2] == (0, 0)
    assert (right[2], right[1]) == (1, 0)
    assert last[2:] == (1, 1)


def test_images_that_are_cut_alike_are_equal():
    assert parts_of("llava_next", 112, 84) == parts_of("llava_next", 224, 168)
    assert hash(parts_of("llava_next", 112, 84)) == hash(parts_of("llava_next", 224, 168))
    assert parts_of("llava_next", 112, 84) != parts_of("llava_next", 84, 112)
    assert Parts.whole(6, (2, 3)) == Parts.whole(6, (2, 3)) != Parts.whole(6, (3, 2))


def test_frames_have_no_overview():
    clip = Clip((zoo.image(56, 56, 1), zoo.image(56, 56, 2)), (0.0, 1.0))
    parts = Parts.of(adapter_of("llava_next_video").prepare(clip).tokens.source)
    with pytest.raises(ParbenchError, match="overview of the image"):
        parts.details


@pytest.mark.parametrize("name", ["llava", "llava_next", "smolvlm"])
def test_raw_saliency_is_the_product_of_queries_and_keys(name):
    adapter = adapter_of(name)
    attention = adapter.family.blocks[-1]
    heard = {}
    handles = [
        getattr(attention, f"{what}_proj").register_forward_hook(lambda *seen, what=what: heard.__setitem__(what, seen[-1]))
        for what in "qk"
    ]
    prepared = adapter.prepare(zoo.image(112, 84, 1))
    with torch.inference_mode():
        (encoded,) = adapter.family.encode([prepared], (-1,))
        found = Probes(adapter, encoded, ["?"], [0]).raw_saliency(-1)
    for handle in handles:
        handle.remove()
    heads, cls = attention.num_heads, adapter.family.has_cls
    query, key = (heard[what].double().unflatten(-1, (heads, -1)).transpose(1, 2) for what in "qk")
    rows = (query @ key.transpose(2, 3) * attention.scale).mean(1)
    by_row = (rows[:, 0] if cls else rows.mean(1)).flatten()
    wanted = by_row[prepared.tokens.members].mean(-1)
    assert torch.allclose(found[0], wanted, atol=1e-6)

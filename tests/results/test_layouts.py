"""Where the tokens of an image lie: few numbers that say the same as the source of every token."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

import zoo
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.source import Source
from parbench.results.layouts import FILE, Layout, read_layouts
from parbench.results.store import RunStore

SIZES = [(112, 84), (130, 60), (60, 170), (1, 1), (900, 20)]
NAMES = sorted(set(zoo.FAMILIES) - {"llava"})


@cache
def adapter_of(name: str) -> ModelAdapter:
    model, processor, _ = zoo.FAMILIES[name]()
    return ModelAdapter(model, processor, name=name)


def source_of(name: str, size: tuple[int, int]) -> Source:
    return adapter_of(name).family.tokens_of(size).source


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_layout_holds_the_box_of_every_token(name, size):
    source = source_of(name, size)
    layout = Layout.of(source)
    again = Layout.parse(json.loads(json.dumps(layout.to_json())))
    assert again == layout
    assert np.allclose(layout.boxes, source.box[source.content].numpy(), atol=2e-3)
    assert (layout.fine == source.is_fine()[source.content].numpy()).all()
    # A grid for the base or thumbnail, and one for each tile, or for all crops together.
    assert len(layout.grids) <= len(source.parts)


def test_crops_that_are_stitched_are_one_grid():
    kinds = [grid.kind for grid in Layout.of(source_of("llava_next", (130, 60))).grids]
    assert kinds == ["base", "crop"]


def test_a_run_stores_a_layout_once_for_a_size_and_goes_on_after_a_kill(tmp_path):
    small, large = (Layout.of(source_of("qwen2_5_vl", size)) for size in SIZES[:2])
    store = RunStore(tmp_path, {"method": {"name": "none"}}, {})
    store.add_layouts([small, small])
    store.close()
    path = store.folder / FILE
    whole = path.read_text()
    path.write_text(whole + '{"size": [1')
    assert list(read_layouts(store.folder)) == [small.size]
    again = RunStore(tmp_path, {"method": {"name": "none"}}, {})
    again.add_layouts([small, large])
    again.close()
    assert read_layouts(store.folder) == {small.size: small, large.size: large}
    assert path.read_text().count("\n") == 2


def test_a_damaged_file_is_said_to_be(tmp_path):
    (tmp_path / FILE).write_text('{"size": [1, 2]}\n')
    with pytest.raises(ParbenchError, match="is damaged"):
        read_layouts(tmp_path)

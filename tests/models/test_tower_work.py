"""What a vision tower computes for an image, against a count patch by patch."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2_5_VLConfig

import zoo
from parbench.models.tower_work import BlockWork, tower_work

# 2 x 2 patches a token; a window is 112 pixels, thus 8 x 8 patches.
_VISION = {"depth": 4, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "num_heads": 2}
_TEXT = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32}


@pytest.fixture(scope="module")
def windowed():
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    return Qwen2_5_VLConfig(vision_config={**_VISION, "fullatt_block_indexes": [1]}, text_config={**_TEXT, "rope_parameters": rope})


@settings(max_examples=25, deadline=None)
@given(grids=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 11), st.integers(1, 11)), min_size=1, max_size=2))
def test_windows_are_squares_of_eight_by_eight_patches(windowed, grids):
    """Two patches attend to each other where they share image, frame and window."""
    shapes = [(frames, 2 * rows, 2 * columns) for frames, rows, columns in grids]
    work = tower_work(windowed, {"image_grid_thw": torch.tensor(shapes)})
    frames, windows = Counter(), Counter()
    for number, shape in enumerate(shapes):
        for frame, row, column in product(*map(range, shape)):
            frames[number, frame] += 1
            windows[number, frame, row // 8, column // 8] += 1
    patches = sum(frames.values())
    near = BlockWork(patches, sum(length**2 for length in windows.values()))
    far = BlockWork(patches, sum(length**2 for length in frames.values()))
    assert work.blocks == (near, far, near, near)
    assert (work.patches, work.groups) == (patches, patches // 4)


@pytest.mark.parametrize(
    ("family", "parts", "tokens", "groups"),
    # 112 x 112 pixels in tiles of 56 x 56, which are 16 patches; CLIP and InternVL add CLS.
    [
        ("llava", 1, 17, 16),
        ("llava_next", 1 + 4, 17, 16),
        ("llava_onevision", 1 + 4, 16, 16),
        ("internvl", 4 + 1, 17, 4),
        ("smolvlm", 9 + 1, 16, 4),
        ("gemma3", 1, 16, 4),
    ],
)
def test_each_tile_attends_to_itself(family, parts, tokens, groups):
    member = zoo.FAMILIES[family]()
    inputs = member.processor(images=[[zoo.image(112, 112)]], text=[member.placeholder], return_tensors="pt")
    work = tower_work(member.model.config, inputs)
    assert set(work.blocks) == {BlockWork(parts * tokens, parts * tokens**2)}
    assert (len(work.blocks), work.patches, work.groups) == (3, parts * 16, parts * groups)

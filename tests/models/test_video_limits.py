"""Frames of videos are resized as by transformers' own video processors, whose functions are read out of its source."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from parbench.clips import Clip
from parbench.models.configs import read_config
from parbench.models.families import without_weights
from parbench.models.families.qwen3_vl import Qwen3VL
from parbench.models.processors import load_processor
from parbench.models.video_limits import VideoLimits


def smart_resize(model: str) -> Callable[..., tuple[int, int]]:
    """The function of a video processor's module, which itself needs torchvision to be imported."""
    package = find_spec(f"transformers.models.{model}")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / f"video_processing_{model}.py"
    (found,) = (one for one in ast.parse(path.read_text()).body if getattr(one, "name", "") == "smart_resize")
    space: dict = {"math": math}
    exec(compile(ast.Module([found], []), str(path), "exec"), space)
    return space["smart_resize"]


THEIRS = {name: smart_resize(name) for name in ("qwen2_vl", "qwen3_vl")}
SIDES = st.integers(8, 1200)


@given(SIDES, SIDES, st.integers(2, 64), st.sampled_from([(4096, 25165824), (131072, 786432), (1, 20000)]))
def test_a_video_is_resized_as_by_qwen3_vl(width, height, frames, limits):
    given = {"temporal_factor": 2, "factor": 32, "min_pixels": limits[0], "max_pixels": limits[1]}
    try:
        expected = THEIRS["qwen3_vl"](frames, height, width, **given)
    except ValueError:
        with pytest.raises(ValueError, match="200 times"):
            VideoLimits(*limits).frame((width, height), frames, 32, 2)
        return
    assert VideoLimits(*limits).frame((width, height), frames, 32, 2) == expected[::-1]


@given(SIDES, SIDES)
def test_frames_of_qwen2_vl_are_resized_as_images(width, height):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as of_images

    if max(width, height) / min(width, height) <= 200:
        limits = {"factor": 28, "min_pixels": 3136, "max_pixels": 100000}
        assert THEIRS["qwen2_vl"](height, width, **limits) == of_images(height, width, **limits)


@pytest.mark.parametrize(
    ("file", "written"),
    [
        ("video_preprocessor_config.json", {"size": {"shortest_edge": 4096, "longest_edge": 9000}}),
        ("processor_config.json", {"video_processor": {"size": {"shortest_edge": 4096, "longest_edge": 9000}}}),
        ("preprocessor_config.json", {"size": {"shortest_edge": 4096, "longest_edge": 9000}}),
    ],
)
def test_limits_are_read_where_transformers_reads_them(tmp_path, file, written):
    assert VideoLimits.read(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 1, "longest_edge": 2}}))
    (tmp_path / file).write_text(json.dumps(written))
    assert VideoLimits.read(tmp_path) == VideoLimits(4096, 9000)


def test_a_qwen3_vl_of_files_resizes_the_whole_video(checkpoint):
    folder = checkpoint("qwen3-vl-4b")
    family = without_weights(read_config(folder), load_processor(folder))
    assert isinstance(family, Qwen3VL)
    limits = family.video_limits
    assert limits is not None
    clip = Clip(tuple(zoo.image(500, 300, frame) for frame in range(8)), tuple(map(float, range(8))))
    tokens, inputs = family.tokens_of_clip(clip.size, clip.times), family.process_clip(clip)
    height, width = THEIRS["qwen3_vl"](8, 300, 500, 2, 32, limits.least, limits.most)
    assert inputs["video_grid_thw"].tolist() == [[4, height // 16, width // 16]] == tokens.grid.tolist()
    assert len(inputs["pixel_values_videos"]) == 4 * (height // 16) * (width // 16)
    # Frames that are resized to what they would be as images are the same pixels, bit for bit.
    family.processor.video_limits = VideoLimits(1, 8 * 512 * 288)
    alike = family.process_clip(clip)["pixel_values_videos"]
    family.processor.video_limits = None
    assert torch.equal(alike, family.process_clip(clip)["pixel_values_videos"])

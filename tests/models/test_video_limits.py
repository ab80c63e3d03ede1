"""Frames of videos are resized as by transformers' own video processors, whose functions are read out of its source."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.image_utils import SizeDict

import zoo
from parbench.clips import Clip
from parbench.compute.images import seen
from parbench.config.plain import option
from parbench.models.configs import read_config
from parbench.models.families import without_weights
from parbench.models.families.qwen3_vl import Qwen3VL
from parbench.models.processors import load_processor
from parbench.models.video_limits import SharedLimits, VideoLimits


def module_of(model: str) -> Path:
    """The module of a model's video processor."""
    package = find_spec(f"transformers.models.{model}")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / f"video_processing_{model}.py"


def smart_resize(model: str) -> Callable[..., tuple[int, int]]:
    """The function of a video processor's module, which itself needs torchvision to be imported."""
    path = module_of(model)
    (found,) = (one for one in ast.parse(path.read_text()).body if getattr(one, "name", "") == "smart_resize")
    space: dict = {"math": math}
    exec(compile(ast.Module([found], []), str(path), "exec"), space)
    return space["smart_resize"]


class Sizing:
    """Stands for transformers' base class: returns the size that it would resize to."""

    max_video_tokens = 128000

    def resize(self, image, size, resample):
        return size.width, size.height


def sizing_qwen2_vl() -> Any:
    """The method ``resize`` of Qwen2-VL's video processor alone, on top of :class:`Sizing`."""
    path = module_of("qwen2_vl")
    (kind,) = (one for one in ast.parse(path.read_text()).body if getattr(one, "name", "") == "Qwen2VLVideoProcessor")
    kind.bases, kind.decorator_list = [ast.Name("Sizing", ast.Load())], []
    kind.body = [one for one in kind.body if getattr(one, "name", "") == "resize"]
    space: dict = {"Sizing": Sizing, "SizeDict": SizeDict, "smart_resize": THEIRS["qwen2_vl"]}
    tree = ast.fix_missing_locations(ast.Module([kind], []))
    # Annotations stay unevaluated as in this module.
    exec(compile(tree, str(path), "exec"), space)
    return space["Qwen2VLVideoProcessor"]()


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


# qwen-vl-utils and transformers have 90 % of a context of 128,000 tokens for all time steps.
SHARED = SharedLimits(128 * 28 * 28, 768 * 28 * 28, int(128000 * 28 * 28 * 0.9))


@given(SIDES, SIDES, st.integers(2, 4000))
def test_a_share_of_all_pixels_is_that_of_qwen2_vl(width, height, frames):
    video, size = (
        torch.empty(1, frames, 1, height, width, device="meta"),
        SizeDict(shortest_edge=SHARED.least, longest_edge=SHARED.most),
    )
    try:
        expected = sizing_qwen2_vl().resize(video, size, None, 28, 2, cap_pixels_per_frame=True)
    except ValueError:
        with pytest.raises(ValueError, match="200"):
            SHARED.frame((width, height), frames, 28, 2)
        return
    assert SHARED.frame((width, height), frames, 28, 2) == expected


def test_total_pixels_of_a_model_limit_its_videos_alone(checkpoint):
    folder = checkpoint("qwen2.5-vl-7b")

    def steps(**settings: int) -> list[int]:
        family = without_weights(read_config(folder), load_processor(folder, settings))
        assert family is not None
        clip = Clip(tuple(zoo.image(336, 336, frame) for frame in range(5)), tuple(map(float, range(5))))
        tokens, inputs = family.tokens_of_clip(clip.size, clip.times), family.process_clip(clip)
        assert inputs["video_grid_thw"].tolist() == tokens.grid.tolist()
        assert len(inputs["pixel_values_videos"]) == tokens.grid.prod()
        return [len(tokens.source), len(family.tokens_of((336, 336)).source)]

    # A third of the pixels of three steps is the same as a limit of each.
    assert steps() == [3 * 144, 144]
    assert steps(total_pixels=5 * 50 * 784 // 2) == [3 * 49, 144]
    assert steps(max_pixels=50 * 784) == [3 * 49, 49]


@pytest.mark.parametrize("frames", [1, 5, 8, 800])
def test_a_qwen3_vl_without_files_counts_what_its_files_would(checkpoint, frames):
    """The published sizes, beside a family that reads the same limits from a checkpoint's files."""
    folder = checkpoint("qwen3-vl-4b")
    family = without_weights(read_config(folder), load_processor(folder))
    assert family is not None
    for size in ((1920, 1080), (64, 48)):
        found = seen(option("model", "qwen3-vl-8b"), size, frames)
        counted = family.tokens_of_clip(size, list(map(float, range(frames))))
        assert (found.geometry.patches, found.geometry.frames) == (len(counted.source), counted.source.frames)
    limited = seen({**option("model", "qwen3-vl-8b"), "total_pixels": 4 * 100 * 32 * 32}, (640, 640), 8)
    assert limited.geometry.patches == 4 * 100


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

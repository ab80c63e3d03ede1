"""The visual tokens of an image of some size, and the vision tower's work for it, without weights or files of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.configs import config_of
from parbench.models.geometry import Geometry, geometry_of
from parbench.models.loading import check_config, locate, read_json
from parbench.models.processors import build_processor, limit_pixels, load_processor, pixel_limits
from parbench.models.silence import quiet_transformers
from parbench.models.special_tokens import small_tokenizer, special_tokens, take_ids
from parbench.models.tower_work import TowerWork, tower_work
from parbench.models.written_sizes import model_geometry

# Width and height of an image where none is given: with it, papers' usual numbers of tokens come out, such as 5 x 576 and 5 x 256.
USUAL = (672, 672)
# Pillow's limit for decompression bombs.
_MOST_PIXELS = 178_956_970


@dataclass(frozen=True)
class SeenImage:
    """What an image becomes in a model.

    Attributes:
        geometry: Sizes of the model for this image. Its patches are the image's visual tokens in the prompt.
        work: The vision tower's work; None if it follows from the geometry.
        size: Width and height; None if all images become the same.
        frames: Frames of a video; None for an image.
    """

    geometry: Geometry
    work: TowerWork | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None


def seen(model: Mapping[str, Any], size: tuple[int, int] | None = None, frames: int | None = None) -> SeenImage:
    """What an image of a size, or a video with frames of that size, becomes in a model.

    Args:
        model: A ``conf/model`` mapping: with ``geometry`` and ``processor``, or with the folder of a checkpoint.
        size: Width and height in pixels; None for ``USUAL``. LLaVA-1.5 crops every image to the same size.
        frames: Frames of a video; None for an image.

    Raises:
        ParbenchError: The model's processor refuses an image of this size, or the model has no processor, or reads no videos.
    """
    if frames is not None:
        return _seen_video(model, size or USUAL, frames)
    if _model_type(model) in _ONE_SIZE:
        return SeenImage(model_geometry(model))
    config = config_of(model)
    width, height = size = size or USUAL
    if width * height > _MOST_PIXELS:
        raise ParbenchError(f"image={width}x{height} has {width * height} pixels, but an image may have at most {_MOST_PIXELS}")
    tokens, grid, work = _counted(json.dumps({key: model.get(key) for key in _READ}, default=dict), size)
    return SeenImage(geometry_of(config).of_image(tokens, grid), work, size)


def _seen_video(model: Mapping[str, Any], size: tuple[int, int], frames: int) -> SeenImage:
    from parbench.models.families import family_type, without_weights

    kind = family_type(_model_type(model))
    if kind is None or not kind.reads_videos:
        raise ParbenchError(f"frames={frames} means nothing for {model['name']}, which reads no videos: leave it out")
    config = config_of(model)
    processor = _processor(json.dumps({key: model.get(key) for key in _READ}, default=dict))
    if model.get("processor"):
        take_ids(config, processor.tokenizer)
    family = without_weights(config, processor)
    assert family is not None
    with quiet_transformers():
        # Frames a second apart.
        tokens = family.tokens_of_clip(size, [float(second) for second in range(frames)])
    geometry = geometry_of(config).of_image(len(tokens.source), (0, 0), tokens.source.frames)
    return SeenImage(geometry, tokens.work, size, frames)


def _model_type(model: Mapping[str, Any]) -> str:
    """The model type of a ``conf/model`` mapping, without importing transformers."""
    if sizes := model.get("geometry"):
        return str(sizes.get("model_type", "llava"))
    folder = locate(str(model["path"]), model.get("revision"), weights=False)
    check_config(folder)
    return str(read_json(folder / "config.json").get("model_type"))


# Model types that see every image at one size without crops. Their geometry says everything.
_ONE_SIZE = ("llava",)
# What the number of tokens depends on.
_READ = ("name", "path", "revision", "geometry", "processor", "min_pixels", "max_pixels", "total_pixels")


@lru_cache(maxsize=256)
def _counted(text: str, size: tuple[int, int]) -> tuple[int, tuple[int, int], TowerWork]:
    """Visual tokens of a grey image, rows and columns of their grid ((0, 0) without one), and the tower's work for it."""
    from PIL import Image

    model = json.loads(text)
    config, (width, height) = config_of(model), size
    processor, placeholder = _processor(text), special_tokens(config.model_type).placeholder
    try:
        with quiet_transformers():
            found = processor(images=[[Image.new("RGB", size)]], text=[placeholder], return_tensors="pt")
    except (ValueError, ZeroDivisionError, MemoryError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParbenchError(f"the processor of {model['name']} refuses image={width}x{height}: {said}") from error
    visual = processor.tokenizer.convert_tokens_to_ids(special_tokens(config.model_type).image)
    grid = (0, 0)
    if "image_grid_thw" in found:
        _, rows, columns = found["image_grid_thw"][0].tolist()
        merge = config.vision_config.spatial_merge_size
        grid = (rows // merge, columns // merge)
    return int((found["input_ids"] == visual).sum()), grid, tower_work(config, found)


@lru_cache(maxsize=32)
def _processor(text: str) -> Any:
    """The processor of a model, from the settings in its YAML or from its folder."""
    model = json.loads(text)
    if settings := model["processor"]:
        config = config_of(model)
        processor = build_processor(config, small_tokenizer(config.model_type), settings)
        if limits := pixel_limits(model):
            limit_pixels(processor, limits)
        return processor
    if model["geometry"]:
        raise ParbenchError(f"the number of visual tokens of {model['name']} depends on its processor: add model.processor")
    return load_processor(locate(str(model["path"]), model["revision"], weights=False), model)

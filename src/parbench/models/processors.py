"""Hugging Face's processors of every family, with or without torchvision.

A processor prepares images, expands an image's placeholder in the prompt to its visual tokens, and tokenizes. Images are always
prepared by the PIL backend: torchvision's pixels differ enough to change answers.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.plain import plain
from parbench.models.silence import quiet_transformers
from parbench.models.still_processors import reads_videos, still
from parbench.models.video_limits import SharedLimits, VideoLimits

# Files that name the processor's class; the first one that does counts.
_NAMING = ("processor_config.json", "preprocessor_config.json")
# Processors whose video half limits the pixels of all frames together.
_LIMIT_WHOLE_VIDEOS = ("Qwen3VLProcessor",)
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


@quiet_transformers()
def load_processor(folder: Path | str, settings: Mapping[str, Any] | None = None) -> Any:
    """The processor of a checkpoint's folder. Its tokenizer pads on the left.

    Families that also read videos lose their video half where torchvision does not import.

    Args:
        folder: The checkpoint's folder.
        settings: A mapping as in ``conf/model``, of which ``min_pixels``, ``max_pixels`` and ``total_pixels`` override the limits
            of the files.

    Raises:
        ParbenchError: Its files cannot be read, they are of another family than the model, or it has no limits of pixels.
    """
    folder = Path(folder)
    try:
        processor = _read(folder)
    except ParbenchError:
        raise
    except Exception as error:  # Each file is read by another library.
        said = str(error).splitlines()[0] if str(error) else ""
        raise ParbenchError(
            f"the processor files in {folder} cannot be read ({type(error).__name__}: {said}): copy tokenizer and "
            "preprocessor_config.json of the checkpoint again"
        ) from error
    processor.tokenizer.padding_side = "left"
    if type(processor).__name__ in _LIMIT_WHOLE_VIDEOS:
        processor.video_limits = VideoLimits.read(folder)
    if limits := pixel_limits(settings or {}):
        limit_pixels(processor, limits)
    return processor


def pixel_limits(settings: Mapping[str, Any]) -> dict[str, int]:
    """The limits of pixels that a ``conf/model`` mapping sets itself.

    ``min_pixels`` and ``max_pixels`` are of an image and of a frame of a video, ``total_pixels`` of all time steps of a video.

    Raises:
        ParbenchError: They are not numbers, or the least is above the greatest.
    """
    found: dict[str, int] = {}
    for key in ("min_pixels", "max_pixels", "total_pixels"):
        if (value := settings.get(key)) is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ParbenchError(f"model.{key}={value} is not a number of pixels from 1 on")
            found[key] = value
    for most in ("max_pixels", "total_pixels"):
        if found.get("min_pixels", 0) > found.get(most, math.inf):
            raise ParbenchError(f"model.min_pixels={found['min_pixels']} is above model.{most}={found[most]}")
    return found


def limit_pixels(processor: Any, limits: Mapping[str, int]) -> None:
    """Set the limits of pixels of a processor, in place of its own; those of a video are then of each frame, as of an image.

    Raises:
        ParbenchError: It has no such limits, or the least is above the greatest.
    """
    from transformers.image_utils import SizeDict

    of = processor.image_processor
    if "min_pixels" not in of.valid_kwargs.__annotations__:
        raise ParbenchError(
            f"model.{next(iter(limits))} is set, but {type(of).__name__.removesuffix('Pil')} has no limits of pixels"
        )
    least = limits.get("min_pixels", of.size["shortest_edge"])
    most = limits.get("max_pixels", of.size["longest_edge"])
    if least > most:
        raise ParbenchError(f"the least number of pixels of an image, {least}, is above the greatest, {most}: set both")
    of.size = SizeDict(shortest_edge=least, longest_edge=most)
    total = limits.get("total_pixels")
    processor.video_limits = None if total is None else SharedLimits(least, most, total)


@quiet_transformers()
def build_processor(config: Any, tokenizer: Any, values: Mapping[str, Any]) -> Any:
    """The processor of a model that has no processor files, from its settings. It has no video half.

    Args:
        config: The model's configuration, which determines the classes.
        tokenizer: A tokenizer with the family's special tokens; see :func:`parbench.models.special_tokens.small_tokenizer`.
        values: Settings as in a checkpoint's preprocessor_config.json and processor_config.json, together.
            ``image_processor_type`` names another class of image processor than the family's, and ``video_size`` is the ``size``
            of a video processor that limits the pixels of all frames together.

    Raises:
        ParbenchError: The family has no processor without torchvision, or no such setting.
    """
    family, images = _classes(config)
    given = plain(values)
    if name := given.pop("image_processor_type", None):
        images = _pil(name)
    if images is None:
        raise ParbenchError(f"models of type {config.model_type} have no image processor that works without torchvision")
    own = {key: given.pop(key) for key in _settings(family) & given.keys()}
    video = given.pop("video_size", {}) if family.__name__ in _LIMIT_WHOLE_VIDEOS else None
    if surplus := sorted(given.keys() - images.valid_kwargs.__annotations__.keys()):
        raise ParbenchError(
            f"the processor of {config.model_type} has no setting {', '.join(surplus)}: use those of {family.__name__} and "
            f"{images.__name__}"
        )
    processor = _made(family, images(**given), tokenizer, own)
    if video:
        processor.video_limits = VideoLimits.of_size(video)
    return processor


def _read(folder: Path) -> Any:
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.utils import is_torchvision_available

    family, images = _classes(AutoConfig.from_pretrained(folder, **_LOCAL))
    _check_family(folder, family, images)
    if not reads_videos(family):
        return family.from_pretrained(folder, backend="pil", **_LOCAL)
    image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **_LOCAL)
    if is_torchvision_available():
        processor = family.from_pretrained(folder, **_LOCAL)
        processor.image_processor = image_processor
        return processor
    tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    values, _ = family.get_processor_dict(folder, **_LOCAL)
    own = {key: values[key] for key in _settings(family) & values.keys()}
    return _made(family, image_processor, tokenizer, own)


def _made(family: Any, image_processor: Any, tokenizer: Any, own: Mapping[str, Any]) -> Any:
    kind = still(family) if reads_videos(family) else family
    return kind(image_processor=image_processor, tokenizer=tokenizer, **{"chat_template": tokenizer.chat_template, **own})


def _classes(config: Any) -> tuple[Any, Any]:
    """The classes of a model's processor and of its image processor (PIL); None for the latter if only the files name it.

    Raises:
        ParbenchError: The model has no processor.
    """
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind = type(config)
    images = IMAGE_PROCESSOR_MAPPING[kind].get("pil") if kind in IMAGE_PROCESSOR_MAPPING else None
    if kind not in PROCESSOR_MAPPING:
        raise ParbenchError(f"models of type {config.model_type} have no processor of images and text in transformers")
    return PROCESSOR_MAPPING[kind], images


def _pil(name: str) -> Any:
    """The PIL class of an image processor's name in any of its spellings; None if there is none."""
    import transformers

    base = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    return getattr(transformers, f"{base}Pil", None)


def _settings(family: Any) -> set[str]:
    """The settings of a processor's class, other than its parts."""
    parts = {"self", "kwargs", "image_processor", "tokenizer", "video_processor"}
    return set(inspect.signature(family.__init__).parameters) - parts


def _check_family(folder: Path, family: Any, images: Any) -> None:
    """Check that the processor files are of the model's family.

    Raises:
        ParbenchError: They name another processor, or an image processor that prepares something else.
    """
    for file in _NAMING:
        if not (folder / file).is_file():
            continue
        read = json.loads((folder / file).read_text(encoding="utf-8"))
        named = read.get("processor_class", family.__name__)
        if named != family.__name__:
            raise ParbenchError(
                f"{folder}/{file} is of another family ({named}) than the model, which needs {family.__name__}: copy the processor "
                "files of the checkpoint again"
            )
        settings = read.get("image_processor", read)
        found = _pil(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
        if None not in (found, images) and found.model_input_names != images.model_input_names:
            raise ParbenchError(
                f"{folder}/{file} is of another family ({found.__name__.removesuffix('Pil')}, which prepares "
                f"{', '.join(found.model_input_names)}) than the model, which needs {', '.join(images.model_input_names)}: copy "
                "the processor files of the checkpoint again"
            )

"""The settings of a checkpoint that decide how many visual tokens an image has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parbench.models.loading import read_json

# Keys of preprocessor_config.json and of processor_config.json, in which the image processor may be a section.
_FILES = ("preprocessor_config.json", "processor_config.json")
_SECTION = "image_processor"
_KEYS = (
    "crop_size",
    "crop_to_patches",
    "do_image_splitting",
    "do_pan_and_scan",
    "do_resize",
    "image_grid_pinpoints",
    "image_seq_len",
    "image_seq_length",
    "max_image_size",
    "max_patches",
    "max_pixels",
    "merge_size",
    "min_patches",
    "min_pixels",
    "num_additional_image_tokens",
    "num_image_tokens",
    "pan_and_scan_max_num_crops",
    "pan_and_scan_min_crop_size",
    "pan_and_scan_min_ratio_to_activate",
    "patch_size",
    "size",
    "temporal_patch_size",
    "vision_aspect_ratio",
    "vision_feature_select_strategy",
)
# All its images have the same number of tokens.
_FIXED = "llava"


def token_settings(folder: Path) -> dict[str, Any]:
    """Model type and settings of the processor that decide how many visual tokens an image has; empty for LLaVA-1.5.

    Args:
        folder: The checkpoint's folder.

    Raises:
        ParbenchError: A file is damaged.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if kind == _FIXED:
        return {}
    found: dict[str, Any] = {}
    for path in (folder / name for name in _FILES):
        if path.is_file():
            read = read_json(path)
            found |= {key: value for key, value in {**read, **read.get(_SECTION, {})}.items() if key in _KEYS}
    return {"family": kind, **dict(sorted(found.items()))}

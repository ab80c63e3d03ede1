"""A model's geometry as its YAML or its config.json states it, without importing transformers, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.models import hub
from parbench.models.geometry import Geometry, geometry_of, own_heads
from parbench.models.loading import check_config, locate, read_json
from parbench.models.offers import EVERYTHING


def model_geometry(model: Mapping[str, Any]) -> Geometry:
    """The geometry of a ``conf/model`` mapping, from its ``geometry`` or else from its checkpoint.

    Raises:
        ParbenchError: There is neither, or methods do not support the model.
    """
    from parbench.models.configs import config_of

    if sizes := model.get("geometry"):
        return _stated(sizes, "vision", "text") or geometry_of(config_of(model))
    return checkpoint_geometry(model)


def checkpoint_geometry(model: Mapping[str, Any]) -> Geometry:
    """The geometry in a checkpoint's ``config.json``, which is downloaded if it is not on this machine.

    Raises:
        ParbenchError: The checkpoint is not available, or methods do not support it.
    """
    from parbench.models.configs import read_config

    folder = locate(str(model["path"]), model.get("revision"), weights=False)
    check_config(folder)
    stated = _stated(read_json(folder / "config.json"), "vision_config", "text_config")
    return stated or geometry_of(read_config(folder))


def known_geometry(model: Mapping[str, Any]) -> Geometry | None:
    """The geometry of a ``conf/model`` mapping without any download; None if only the hub has it.

    Raises:
        ParbenchError: The checkpoint on this machine is damaged, or methods do not support it.
    """
    if has_small_files(model):
        return checkpoint_geometry(model)
    return model_geometry(model) if model.get("geometry") else None


def has_small_files(model: Mapping[str, Any]) -> bool:
    """Whether the small files of a ``conf/model`` mapping's checkpoint (configuration, processor) are on this machine.

    True for a path that is neither a folder nor a hub name: opening it gives the error.
    """
    path = str(model["path"])
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if not hub.is_hub_name(path):
            return True
        cached = hub.cached_snapshot(path, model.get("revision"))
        if cached is None:
            return False
        folder = cached
    return (folder / "config.json").is_file()


def _stated(config: Mapping[str, Any], vision: str, text: str) -> Geometry | None:
    """The geometry that a LLaVA-1.5's configuration states; None for other models, or if a size is left to the defaults."""
    tower, llm = (config.get(part) or {} for part in (vision, text))
    found = [tower.get(name) for name in ("image_size", "patch_size", "num_hidden_layers")]
    found += [llm.get("num_hidden_layers"), config.get("vision_feature_layer")]
    sizes = [size for size in found if isinstance(size, int)]
    if config.get("model_type", "llava") != "llava" or len(sizes) < len(found):
        return None
    image, patch, blocks, layers, feature = sizes
    offers = (EVERYTHING - {"heads"}) | own_heads(llm.get("num_attention_heads"), llm.get("num_key_value_heads"))
    return Geometry(image // patch, image // patch, layers, blocks, patch, feature, offers=offers)

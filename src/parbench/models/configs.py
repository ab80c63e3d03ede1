"""A model's Hugging Face configuration, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.loading import check_config, locate
from parbench.models.plain import plain
from parbench.models.silence import quiet_transformers

# Sections of ``geometry`` that are not keys of config.json: its two halves, and the CLIP that the tower was taken from.
_SECTIONS = ("model_type", "vision", "text", "clip")


@quiet_transformers()
def config_of(model: Mapping[str, Any]) -> Any:
    """The configuration of a ``conf/model`` mapping, from its ``geometry`` or its folder. Weights are not read.

    Args:
        model: Its ``geometry`` has the keys of the checkpoint's config.json, with ``vision`` for ``vision_config`` and ``text`` for
            ``text_config``. Without ``model_type`` it is a LLaVA-1.5's.

    Raises:
        ParbenchError: There is neither, transformers does not know the model type, or its sizes do not fit together.
    """
    if geometry := model.get("geometry"):
        return _from_sizes(str(model.get("name")), plain(geometry))
    folder = locate(str(model["path"]), model.get("revision"), weights=False)
    check_config(folder)
    return read_config(folder)


@quiet_transformers()
def read_config(folder: Path) -> Any:
    """The configuration in a checkpoint's folder.

    Raises:
        ParbenchError: transformers cannot read it.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # Each family's configuration checks itself in its own way.
        said = str(error).splitlines()[0] if str(error) else ""
        raise ParbenchError(
            f"{folder}/config.json cannot be read ({type(error).__name__}: {said}): copy the checkpoint again"
        ) from error


def _from_sizes(name: str, geometry: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = geometry.get("model_type", "llava")
    if kind not in CONFIG_MAPPING:
        raise ParbenchError(
            f"model.geometry.model_type={kind} of {name} is no model type of transformers: use that of its config.json"
        )
    rest = {key: value for key, value in geometry.items() if key not in _SECTIONS}
    try:
        return AutoConfig.for_model(kind, vision_config=geometry["vision"], text_config=geometry["text"], **rest)
    except Exception as error:  # Each family's configuration checks itself in its own way.
        said = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ParbenchError(f"model.geometry of {name} does not fit together: {said}") from error

"""The text side of a CLIP that is published as a pickle: read without executing code, and cached as safetensors.

OpenAI published CLIP ViT-L/14-336 only as ``pytorch_model.bin``. It is the only pickle that parbench reads, by
``torch.load(weights_only=True)``, which builds tensors and refuses everything else.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from parbench.cache import cache_root, keep
from parbench.errors import ParbenchError
from parbench.models.fingerprints import PICKLE, file_sha256

_log = logging.getLogger(__name__)

# The tensors that LLaVA's vision tower does not have.
KEPT = ("text_model.", "text_projection.", "visual_projection.")


def is_pickled(folder: Path) -> bool:
    """Whether a CLIP's weights exist only as a pickle."""
    return (folder / PICKLE).is_file() and not any(folder.glob("*.safetensors"))


def converted(folder: Path, sizes: Any) -> dict[str, Tensor]:
    """Text encoder and projections of a pickled CLIP, converted on first use.

    Args:
        folder: The checkpoint's folder.
        sizes: Its ``CLIPConfig``.

    Returns:
        Tensors by name.

    Raises:
        ParbenchError: The pickle contains something other than tensors, or other tensors than its config.json describes.
    """
    digest = file_sha256(folder / PICKLE)
    kept = cache_root() / "clip" / f"{digest}.safetensors"
    if kept.is_file():
        try:
            with safe_open(kept, "pt") as file:
                whole = (file.metadata() or {}).get("converted_from_sha256") == digest
            if whole:
                return load_file(kept)
        except (SafetensorError, OSError):
            # Damaged: convert again.
            pass
    tensors = {name: value for name, value in read(folder, sizes).items() if name.startswith(KEPT)}
    metadata = {"format": "pt", "converted_from": PICKLE, "converted_from_sha256": digest}
    if error := keep(kept, lambda partial: save_file(tensors, partial, metadata=metadata)):
        _log.warning(
            f"note: {kept.parent} cannot be written ({error.strerror}): the CLIP in {folder} is read from its {PICKLE} each "
            "time; set PARBENCH_CACHE to another folder"
        )
    return tensors


def read(folder: Path, sizes: Any) -> dict[str, Tensor]:
    """All tensors of a pickled CLIP. Each of them is checked.

    Raises:
        ParbenchError: The pickle contains something other than tensors, or other tensors than its config.json describes.
    """
    path = folder / PICKLE
    _check_size(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged or hostile pickle may raise anything.
        raise ParbenchError(
            f"{path} is not a file of tensors only and is not loaded ({type(error).__name__}); no code in it was executed: "
            "download it again from openai/clip-vit-large-patch14-336, or set model.clip to a CLIP in safetensors"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ParbenchError(f"{path} contains something other than named tensors: use the weights of a CLIPModel")
    # A buffer in older releases.
    tensors = {name: value for name, value in found.items() if not name.endswith(".position_ids")}
    _check_tensors(path, tensors, sizes)
    return {name: value.contiguous() for name, value in tensors.items()}


def _check_size(path: Path) -> None:
    """Refuse a compressed file, which could grow without limit: torch stores tensors uncompressed."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > path.stat().st_size:
        raise ParbenchError(f"{path} is compressed, which torch never does, and is not loaded: download it again")


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], sizes: Any) -> None:
    from transformers import CLIPModel

    with torch.device("meta"):
        expected = {name: value.shape for name, value in CLIPModel(sizes).state_dict().items()}
    wrong = {
        "missing": sorted(set(expected) - set(tensors)),
        "surplus": sorted(set(tensors) - set(expected)),
        "misshapen": sorted(name for name in set(tensors) & set(expected) if tensors[name].shape != expected[name]),
    }
    for what, names in wrong.items():
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ParbenchError(f"{path} has {what} tensors ({shown}): it does not belong to its config.json")

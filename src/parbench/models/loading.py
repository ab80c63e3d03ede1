"""Loading of a model from a folder or the hub: safetensors only, with every tensor accounted for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from parbench.errors import ParbenchError, unknown
from parbench.models import hub, lora
from parbench.models.construction import building
from parbench.models.devices import resolve_device, resolve_dtype
from parbench.models.fingerprints import PICKLE
from parbench.models.placement import bridge, check_bridged, check_placement, placed
from parbench.models.processors import load_processor
from parbench.models.quantization import check_quantization, quantized
from parbench.models.silence import quiet_transformers
from parbench.models.unsupported import why_not, why_not_by_name

WEIGHTS = ("checkpoint", "random")
# Prompt formats: the checkpoint's chat template, or the conversation format of LLaVA-1.5's training.
PROMPTS = ("template", "vicuna_v1")
_PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json")
_IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def has_random_weights(config: Mapping[str, Any]) -> bool:
    """Whether a ``conf/model`` mapping requests random weights instead of a checkpoint.

    Raises:
        ParbenchError: ``weights`` has another value, or ``llm_layers`` is set for a checkpoint.
    """
    weights = config.get("weights", "checkpoint")
    if weights not in WEIGHTS:
        raise ParbenchError(f"model.weights={weights} is unknown: use {' or '.join(WEIGHTS)}")
    if weights == "checkpoint" and config.get("llm_layers") is not None:
        raise ParbenchError(
            f"model.llm_layers={config['llm_layers']} would remove layers of a checkpoint: use it with model.weights=random"
        )
    return bool(weights == "random")


def resolve_prompt(config: Mapping[str, Any]) -> str:
    """The prompt format of a ``conf/model`` mapping, one of ``PROMPTS``.

    Raises:
        ParbenchError: It is another one.
    """
    prompt = str(config.get("prompt", "template"))
    if prompt not in PROMPTS:
        raise unknown("model.prompt", prompt, PROMPTS)
    return prompt


def locate(
    path: str,
    revision: str | None,
    key: str = "model.path",
    *,
    weights: bool = True,
    forms: Sequence[str] = hub.SAFETENSORS,
) -> Path:
    """The folder of a checkpoint: ``path`` itself if it is a folder, else the snapshot of the hub (cached or downloaded).

    Args:
        path: A folder or ``org/model``.
        revision: Revision on the hub; None for main.
        key: The setting that names it, for messages.
        weights: Whether weights are needed, or only configuration and tokenizer.
        forms: File patterns of weights; the first that exists is used.

    Raises:
        ParbenchError: It is neither a folder nor available from the hub, or a file of its weights is missing.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if weights and (lacking := hub.lacks(folder, forms)) and not lacking.startswith("no "):
            raise ParbenchError(hub.half_copied(folder, lacking))
        return folder
    if not hub.is_hub_name(path):
        raise ParbenchError(f"{key}={path} is not a folder: use the folder of a checkpoint, or a hub name such as org/model")
    if why := why_not_by_name(path):
        raise ParbenchError(why)
    return hub.whole(path, revision, key, forms) if weights else hub.small_files(path, revision, key)


def locate_clip(path: str, revision: str | None, *, weights: bool = True) -> Path:
    """The folder of a CLIP, whose weights may be a pickle if there are no safetensors; see :func:`locate`.

    Raises:
        ParbenchError: It is not available, or a file is missing.
    """
    return locate(path, revision, "model.clip", weights=weights, forms=(*hub.SAFETENSORS, PICKLE))


def check_folder(folder: Path) -> None:
    """Check that a checkpoint's folder has all files that are needed.

    Raises:
        ParbenchError: A file is missing. The message names it.
    """
    check_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise ParbenchError(
            f"{folder} contains no *.safetensors file: weights are loaded from safetensors only, so convert them first"
        )


def check_config(folder: Path) -> None:
    """Check the files of a checkpoint other than weights, and that its model type is supported.

    Raises:
        ParbenchError: A file is missing or damaged, or the model type is not supported.
    """
    if not (folder / "config.json").is_file():
        raise ParbenchError(f"{folder} contains no config.json: it is not a checkpoint in Hugging Face's layout")
    if why := why_not(f"{folder}/config.json", read_json(folder / "config.json")):
        raise ParbenchError(why)
    missing = [name for name in _PROCESSOR_FILES if not (folder / name).is_file()]
    images = [folder / name for name in _IMAGE_PROCESSOR_FILES if (folder / name).is_file()]
    # In published checkpoints, the processor's file may leave the image processor to preprocessor_config.json.
    if not any(path.name == _IMAGE_PROCESSOR_FILES[0] or "image_processor" in read_json(path) for path in images):
        missing.append(_IMAGE_PROCESSOR_FILES[0])
    if missing:
        raise ParbenchError(f"{folder} lacks processor files ({', '.join(missing)}): save the model's AutoProcessor there")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        ParbenchError: The file is not a JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ParbenchError(f"{path} is damaged ({error}): copy the checkpoint again") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"{path} is damaged (it is not a JSON object): copy the checkpoint again")
    return found


def check_clip_config(folder: Path, vision_width: int | None = None) -> None:
    """Check the files of a CLIP other than weights, and that it fits a LLaVA's vision tower.

    Args:
        folder: Folder of the CLIP.
        vision_width: Hidden size of the LLaVA's vision tower; None if unknown.

    Raises:
        ParbenchError: A file is missing, or it is not a CLIP of that width.
    """
    missing = [name for name in ("config.json", *_PROCESSOR_FILES[1:]) if not (folder / name).is_file()]
    if missing:
        raise ParbenchError(f"the CLIP in {folder} lacks {', '.join(missing)}: save model and tokenizer there")
    config = read_json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise ParbenchError(
            f"{folder}/config.json is of model type {config.get('model_type')}: model.clip needs a CLIP, such as "
            "openai/clip-vit-large-patch14-336"
        )
    width = (config.get("vision_config") or {}).get("hidden_size", 768)
    if vision_width is not None and width != vision_width:
        raise ParbenchError(
            f"the CLIP in {folder} has a vision tower of width {width}, but LLaVA's has width {vision_width}: set model.clip to "
            "the CLIP from which LLaVA's tower was taken"
        )


def check_clip_folder(folder: Path) -> None:
    """Check that the folder of a CLIP has weights.

    Raises:
        ParbenchError: A file is missing. The message names it.
    """
    if not any(folder.glob("*.safetensors")) and not (folder / PICKLE).is_file():
        raise ParbenchError(
            f"the CLIP in {folder} has neither *.safetensors nor {PICKLE}: save it with save_pretrained and set "
            "model.clip=/path/to/folder"
        )
    check_clip_config(folder)


# Missing and surplus tensors are raised as one error.
@building()
@quiet_transformers()
def load_strictly(cls: Any, folder: Path, **arguments: Any) -> Any:
    """``from_pretrained`` that refuses missing, surplus and misshapen tensors.

    Raises:
        ParbenchError: The tensors of the checkpoint are not those of the class. The message names the first ones.
    """
    from safetensors import SafetensorError

    try:
        model, info = cls.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **arguments,
        )
    except SafetensorError as error:
        raise ParbenchError(f"the safetensors files in {folder} cannot be read ({error}): copy the checkpoint again") from error
    except (OSError, ValueError, ImportError) as error:
        raise ParbenchError(f"the checkpoint in {folder} cannot be opened: {str(error).splitlines()[0]}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info[kind])
        if names:
            what = kind.removesuffix("_keys").replace("unexpected", "surplus").replace("mismatched", "misshapen")
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ParbenchError(f"the checkpoint in {folder} has {what} tensors ({shown}): it does not belong to its config.json")
    # Nothing is trained here, and cached tensors must work inside and outside of inference mode.
    return model.requires_grad_(False)


@quiet_transformers()
def load_model(config: Mapping[str, Any]) -> tuple[Any, Any, Path]:
    """Model and processor of a model configuration.

    Args:
        config: A mapping as in ``conf/model``: path, revision, dtype, device, attention, device_map, max_memory, quantization,
            min_pixels, max_pixels, adapter.

    Returns:
        The model in evaluation mode on its device, the processor, and the checkpoint's folder.

    Raises:
        ParbenchError: Path, files, tensors, dtype, device, quantisation or adapter are wrong.
    """
    from transformers import AutoModelForImageTextToText

    check_placement(config)
    check_quantization(config)
    adapter = lora.asked(config)
    device, dtype = resolve_device(config["device"]), resolve_dtype(config["dtype"])
    # Weights come last: everything else can be checked without them.
    small = locate(str(config["path"]), config.get("revision"), weights=False)
    check_config(small)
    kind = read_json(small / "config.json").get("model_type")
    if config.get("device_map") is not None:
        check_bridged(str(kind))
    somewhere = {**quantized(config, device), **placed(config, small)}
    folder = locate(str(config["path"]), config.get("revision"))
    check_folder(folder)
    processor = load_processor(folder, config)
    if adapter is not None:
        check_adapter(adapter, folder)
    try:
        model = load_strictly(
            AutoModelForImageTextToText, folder, dtype=dtype, attn_implementation=config["attention"], **somewhere
        )
        # A quantised or placed model is already on its devices.
        model = model if somewhere else model.to(device)
    except torch.OutOfMemoryError as error:
        raise ParbenchError(
            f"the model in {folder} does not fit into the memory of {device}: use a smaller model, a smaller model.dtype, another "
            "device, model.quantization=bnb-8bit or model.device_map=auto"
        ) from error
    if config.get("device_map") is not None:
        bridge(model)
    if adapter is not None:
        adapter.merge(model)
        # A copy of it is no longer the checkpoint of that name.
        model.name_or_path = ""
    return model.eval(), processor, folder


def check_adapter(adapter: lora.LoraFile, folder: Path) -> str:
    """Check that an adapter belongs to a checkpoint, without loading its weights. Returns the fingerprint of both together.

    Raises:
        ParbenchError: It was trained for other weights, or changes parameters that the checkpoint does not have.
    """
    from parbench.models.configs import read_config
    from parbench.models.skeleton import skeleton

    found = lora.weights_of(folder, adapter)
    adapter.check_shapes(skeleton(read_config(folder)).shapes)
    return found

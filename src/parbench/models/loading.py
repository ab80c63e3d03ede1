"""Loads a LLaVA from a folder or the hub: safetensors only, every tensor accounted for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from parbench.errors import ParbenchError, unknown

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WEIGHTS = ("checkpoint", "random")
# Who makes the prompt: the checkpoint's chat template, or the conversation that LLaVA-1.5 was trained with.
PROMPTS = ("template", "vicuna_v1")
_PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json")
_IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def asset(name: str) -> str:
    """Path of a model that is shipped in the package (``llava-tiny``)."""
    return str(resources.files("parbench").joinpath("assets", name))


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ParbenchError: CUDA is asked for and absent, or the name is no device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ParbenchError(f"model.device={device} is no device: use auto, cpu, cuda or cuda:0") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ParbenchError(f"model.device={device} is not supported: use auto, cpu, cuda or cuda:0")
    if chosen.type == "cuda" and torch.cuda.is_available() and (chosen.index or 0) >= torch.cuda.device_count():
        raise ParbenchError(
            f"model.device={device}, but this machine has {torch.cuda.device_count()} CUDA devices, from cuda:0 on"
        )
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ParbenchError(
            f"model.device={device}, but this machine or this build of torch has no CUDA: use model.device=cpu"
        )
    return chosen


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        ParbenchError: The name is not one of ``DTYPES``.
    """
    if dtype not in DTYPES:
        raise ParbenchError(f"model.dtype={dtype} is not supported: use one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def has_random_weights(config: Mapping[str, Any]) -> bool:
    """Whether a ``conf/model`` mapping wants random weights of its sizes instead of a checkpoint.

    Raises:
        ParbenchError: ``weights`` is neither, or a checkpoint shall lose layers.
    """
    weights = config.get("weights", "checkpoint")
    if weights not in WEIGHTS:
        raise ParbenchError(f"model.weights={weights} is not known: use {' or '.join(WEIGHTS)}")
    if weights == "checkpoint" and config.get("llm_layers") is not None:
        raise ParbenchError(
            f"model.llm_layers={config['llm_layers']} would cut layers off a checkpoint: use it with model.weights=random"
        )
    return weights == "random"


def resolve_prompt(config: Mapping[str, Any]) -> str:
    """Who makes the prompts of a ``conf/model`` mapping: one of ``PROMPTS``.

    Raises:
        ParbenchError: It is none of them.
    """
    prompt = str(config.get("prompt", "template"))
    if prompt not in PROMPTS:
        raise unknown("model.prompt", prompt, PROMPTS)
    return prompt


def locate(path: str, revision: str | None, key: str = "model.path") -> Path:
    """Folder of a checkpoint: ``path`` itself if it is one, else the hub's snapshot (cached or downloaded).

    Raises:
        ParbenchError: It is neither a folder nor to be had from the hub.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ParbenchError(
            f"{key}={path} is not a folder: give the folder of a checkpoint or a hub name such as org/model"
        )
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        found = snapshot_download(
            path, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
        )
    except (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
        ValueError,
        httpx.HTTPError,
    ) as error:
        raise ParbenchError(
            f"the weights of {path} (revision {revision or 'main'}) are neither in the local hub cache nor to be downloaded "
            f"({type(error).__name__}): copy the checkpoint to this machine and give its folder as {key}=/path/to/folder"
        ) from error
    return Path(found)


def fingerprint(folder: Path) -> str:
    """Sha256 over the files of a checkpoint that decide its numbers (weights, configuration, tokenizer)."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json", ".model", ".jinja") and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def check_folder(folder: Path) -> None:
    """What a checkpoint's folder must hold before anything is loaded.

    Raises:
        ParbenchError: A file is missing; it is named.
    """
    if not (folder / "config.json").is_file():
        raise ParbenchError(f"{folder} holds no config.json: it is not a checkpoint in Hugging Face's layout")
    try:
        config = json.loads((folder / "config.json").read_text())
    except json.JSONDecodeError as error:
        raise ParbenchError(f"{folder}/config.json is damaged ({error}): copy the checkpoint again") from error
    kind = config.get("model_type")
    if config.get("vision_feature_select_strategy", "default") != "default":
        raise ParbenchError(
            f"{folder}/config.json hands CLS to the LLM too, which parbench does not know: only 'default' is supported"
        )
    if kind != "llava":
        raise ParbenchError(
            f"{folder}/config.json is of model type {kind}: parbench opens LLaVA-1.5 style models (llava)"
        )
    if not any(folder.glob("*.safetensors")):
        raise ParbenchError(
            f"{folder} holds no *.safetensors file: weights are loaded from safetensors only, so convert them first"
        )
    missing = [name for name in _PROCESSOR_FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _IMAGE_PROCESSOR_FILES):
        missing.append(_IMAGE_PROCESSOR_FILES[0])
    if missing:
        raise ParbenchError(
            f"{folder} lacks processor files ({', '.join(missing)}): save the model's AutoProcessor there"
        )


def check_clip_folder(folder: Path) -> None:
    """What the folder of a CLIP text tower must hold.

    Raises:
        ParbenchError: A file is missing; it is named.
    """
    if not any(folder.glob("*.safetensors")):
        raise ParbenchError(
            f"the CLIP in {folder} has no *.safetensors file: weights are loaded from safetensors only, so convert it and give its "
            "folder as model.clip=/path/to/folder"
        )
    missing = [name for name in ("config.json", *_PROCESSOR_FILES[1:]) if not (folder / name).is_file()]
    if missing:
        raise ParbenchError(f"the CLIP in {folder} lacks {', '.join(missing)}: save model and tokenizer there")


def load_strictly(cls: Any, folder: Path, **arguments: Any) -> Any:
    """``from_pretrained`` that accepts neither missing, surplus nor misshapen tensors.

    Raises:
        ParbenchError: The checkpoint does not fit the class exactly; the first tensors are named.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    # What is missing or surplus is raised below, in one sentence.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model, info = cls.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True,
            output_loading_info=True, ignore_mismatched_sizes=True, **arguments,
        )  # fmt: skip
    except SafetensorError as error:
        raise ParbenchError(
            f"the safetensors files in {folder} cannot be read ({error}): copy the checkpoint again"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise ParbenchError(f"the checkpoint in {folder} cannot be opened: {str(error).splitlines()[0]}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info[kind])
        if names:
            what = kind.removesuffix("_keys").replace("unexpected", "surplus").replace("mismatched", "misshapen")
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ParbenchError(
                f"the checkpoint in {folder} has {what} tensors ({shown}): it does not belong to its config.json"
            )
    # Nothing is trained here, and what is remembered must serve inside and outside of inference mode.
    return model.requires_grad_(False)


def load_model(config: Mapping[str, Any]) -> tuple[Any, Any, Path]:
    """Model and processor of a model configuration.

    Args:
        config: A mapping as in ``conf/model``: path, revision, dtype, device, attention.

    Returns:
        The model in evaluation mode on its device, the processor, and the checkpoint's folder.

    Raises:
        ParbenchError: Anything about path, files, tensors, dtype or device is wrong.
    """
    from transformers import LlavaForConditionalGeneration

    device, dtype = resolve_device(config["device"]), resolve_dtype(config["dtype"])
    folder = locate(str(config["path"]), config.get("revision"))
    check_folder(folder)
    model = load_strictly(LlavaForConditionalGeneration, folder, dtype=dtype, attn_implementation=config["attention"])
    try:
        model = model.to(device)
    except torch.OutOfMemoryError as error:
        raise ParbenchError(
            f"the model in {folder} does not fit into the memory of {device}: take a smaller one, a smaller model.dtype or "
            "another device"
        ) from error
    return model.eval(), load_processor(folder), folder


def load_processor(folder: Path | str) -> Any:
    """The processor of a checkpoint's folder."""
    from transformers import AutoProcessor

    # The torchvision backend's pixels differ enough to flip answers, so PIL everywhere.
    processor = AutoProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False, local_files_only=True)
    processor.tokenizer.padding_side = "left"
    return processor

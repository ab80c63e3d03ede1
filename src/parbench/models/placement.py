"""Placement of a model: on one device, or by Hugging Face's device_map on several GPUs, in memory and on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from parbench.errors import ParbenchError, unknown
from parbench.models.devices import resolve_device

# Strategies that Hugging Face resolves from the available GPUs and `max_memory`.
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
# Places that store weights which another device computes with.
_STORES = ("cpu", "disk")
# Model types whose parts bridge() knows.
_BRIDGED = ("llava",)
_SIZE = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?B)", re.IGNORECASE)


def check_placement(config: Mapping[str, Any]) -> None:
    """Check that ``device_map`` and ``max_memory`` of a ``conf/model`` mapping are possible on this machine.

    Raises:
        ParbenchError: They are not. Nothing has been loaded yet.
    """
    device_map, memory = config.get("device_map"), config.get("max_memory")
    if device_map is None:
        if memory is not None:
            raise ParbenchError("model.max_memory limits what model.device_map may use: set model.device_map=auto too")
        return
    if config.get("weights") == "random" or config.get("llm_layers") is not None:
        raise ParbenchError(
            "model.device_map places the weights of a checkpoint: leave it out with model.weights=random and model.llm_layers, "
            "which create weights on one device"
        )
    if str(config.get("device", "auto")) != "auto":
        raise ParbenchError(f"model.device_map and model.device={config['device']} exclude each other: leave out one of them")
    if isinstance(device_map, str):
        if device_map not in STRATEGIES:
            raise ParbenchError(
                f"model.device_map={device_map} is unknown: use {', '.join(STRATEGIES)} or a mapping of modules to devices"
            )
    elif not isinstance(device_map, Mapping) or not device_map:
        raise ParbenchError(
            f"model.device_map={device_map} is not a mapping of modules to devices: write it as {{lm_head: cpu, model: 0}}"
        )
    else:
        for part, place in device_map.items():
            _check_place(f"model.device_map: {part}", place, _STORES)
    if memory is not None:
        _check_memory(memory, device_map)


def _check_place(what: str, place: Any, stores: tuple[str, ...]) -> None:
    if place in stores:
        return
    if isinstance(place, bool) or not isinstance(place, int | str):
        raise ParbenchError(f"{what} is {place}, which is not a device: use the number of a GPU, {' or '.join(stores)}")
    try:
        resolve_device(f"cuda:{place}" if isinstance(place, int) else place)
    except ParbenchError as error:
        raise ParbenchError(f"{what} is {place}: {error}") from error


def _check_memory(memory: Any, device_map: Any) -> None:
    if not isinstance(device_map, str):
        raise ParbenchError("model.max_memory has no effect if model.device_map is a mapping: leave out one of them")
    if not isinstance(memory, Mapping) or not memory:
        raise ParbenchError(f"model.max_memory={memory} is not a mapping: write it as {{0: 20GiB, cpu: 60GiB}}")
    for place, size in memory.items():
        _check_place("model.max_memory", place, ("cpu",))
        if isinstance(size, bool) or not (isinstance(size, int) or _SIZE.fullmatch(str(size))):
            raise ParbenchError(f"model.max_memory={size} of {place} is not a size: write 20GiB, 500MB or a number of bytes")


def device_type(config: Mapping[str, Any]) -> str:
    """The type of the computing device, ``cuda`` or ``cpu``, which is part of a run's identity.

    The index of the GPU and the places of offloaded weights are not: they change no results. If the map contains a GPU, offloaded
    weights are moved to it for computing.
    """
    device_map = config.get("device_map")
    if device_map is None or isinstance(device_map, str):
        return resolve_device(str(config["device"])).type
    return "cuda" if any(place not in _STORES for place in device_map.values()) else "cpu"


def placed(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for ``device_map`` and ``max_memory``; empty without them.

    Weights on disk stay in the checkpoint's own safetensors.

    Raises:
        ParbenchError: A mapping names a module that the model in ``folder`` does not have, or omits one.
    """
    device_map, memory = config.get("device_map"), config.get("max_memory")
    if device_map is None:
        return {}
    if isinstance(device_map, str):
        return {"device_map": device_map} | ({"max_memory": dict(memory)} if memory is not None else {})
    _check_parts(device_map, folder)
    return {"device_map": dict(device_map)}


def _check_parts(device_map: Mapping[str, Any], folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    known = dict(model.named_modules())
    for part in device_map:
        if part not in known:
            raise unknown("module in model.device_map", part, (name for name in known if name.count(".") < 3))
    places = {name: _place_of(name, device_map) for name in model.state_dict()}
    homeless = sorted(name for name, place in places.items() if place is None)
    if homeless:
        raise ParbenchError(
            f"model.device_map has no place for {len(homeless)} tensors ({', '.join(homeless[:3])}): add their modules, or "
            "use model.device_map=auto"
        )
    for one, other in model.all_tied_weights_keys.items():
        if places[one] != places[other]:
            raise ParbenchError(f"{one} and {other} are tied in this model: give both the same place in model.device_map")


def _place_of(tensor: str, device_map: Mapping[str, Any]) -> Any:
    """The place that the innermost module in ``device_map`` gives a tensor; None if there is none."""
    named = [part for part in device_map if part in ("", tensor) or tensor.startswith(f"{part}.")]
    return device_map[max(named, key=len)] if named else None


def execution_device(module: Any) -> torch.device:
    """The device on which a module computes: that of its weights, or the one to which accelerate moves offloaded weights."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        if (device := getattr(hook, "execution_device", None)) is not None and getattr(hook, "offload", False):
            return torch.device(device if isinstance(device, str) else f"cuda:{device}" if isinstance(device, int) else device)
        if (tensor := next(part.parameters(recurse=False), None)) is not None:
            found: torch.device = tensor.device
            return found
    raise ValueError(f"{type(module).__name__} has no weights")


def home(model: Any) -> torch.device:
    """The device of a model's token embeddings, on which the engine creates its own tensors."""
    return execution_device(model.get_input_embeddings())


def check_bridged(kind: str) -> None:
    """Check that :func:`bridge` knows the parts of a model type.

    Raises:
        ParbenchError: It does not.
    """
    if kind not in _BRIDGED:
        raise ParbenchError(
            f"model.device_map distributes models of type {' or '.join(_BRIDGED)} only, not {kind}: set model.device, or "
            "model.quantization for a smaller model"
        )


def bridge(model: Any) -> list[RemovableHandle]:
    """Make the parts of a placed LLaVA callable separately: each moves its inputs to its device and its outputs to the home device.

    Hugging Face's hooks do this for the whole model only, but methods and engine call its parts.

    Returns:
        What takes it back.
    """
    tower, language, at = model.model.vision_tower, model.model.language_model, home(model)
    whole = [
        tower,
        tower.post_layernorm,
        model.model.multi_modal_projector,
        language.embed_tokens,
        language,
        model.lm_head,
    ]
    inner = [part for layer in language.layers for part in (layer, layer.input_layernorm)]
    handles = [
        part.register_forward_pre_hook(partial(_bring, execution_device(part)), with_kwargs=True) for part in (*whole, *inner)
    ]
    handles += [part.register_forward_hook(partial(_give, at)) for part in whole]
    _keep(tower.embeddings)
    return handles


def _keep(embeddings: Any) -> None:
    """Load offloaded position embeddings permanently: for other image sizes, CLIP reads them without calling their module."""
    for part in embeddings.modules():
        hook = getattr(part, "_hf_hook", None)
        if hook is not None and getattr(hook, "offload", False):
            hook.pre_forward(part)
            hook.offload = False


def _bring(device: torch.device, _module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return _moved(args, device), _moved(kwargs, device)


def _give(device: torch.device, _module: Any, _args: Any, output: Any) -> Any:
    return _moved(output, device)


def _moved(value: Any, device: torch.device) -> Any:
    from accelerate.utils import send_to_device

    # The keys and values of each layer stay on its device.
    return send_to_device(value, device, skip_keys="past_key_values")

"""Cards that are not there: tensors of the CPU that say they are on one, and must not meet those of another."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_CPU = torch.device("cpu")
_MADE = {
    "arange",
    "zeros",
    "ones",
    "empty",
    "full",
    "tensor",
    "eye",
    "linspace",
    "rand",
    "randn",
    "triu_indices",
    "as_tensor",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_tensor",
}


def place(tensor: torch.Tensor) -> torch.device:
    """Where a tensor says it is."""
    return getattr(tensor, "simulated_place", _CPU)


def put(tensors: Any, device: torch.device) -> Any:
    """Let tensors, in whatever they are in, say that they are on a device."""
    for leaf in tree_leaves(tensors):
        if isinstance(leaf, torch.Tensor):
            leaf.simulated_place = device
    return tensors


class SimulatedCards(TorchFunctionMode):
    """While open, ``.to`` moves nothing but the name, and an operation on tensors of several devices fails as on real ones."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func == torch.Tensor.device.__get__:
            return place(args[0])
        if name in ("__get__", "__set__"):
            # Such as .data, .T and .shape.
            if name == "__get__":
                return put(func(*args, **kwargs), place(args[0]))
            if isinstance(args[1], torch.Tensor):
                put(args[0], place(args[1]))
            return func(*args, **kwargs)
        if name in ("to", "cpu"):
            return _moved(name, args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name in _MADE:
            device = kwargs.pop("device", None) or (place(tensors[0]) if tensors else _CPU)
            return put(func(*args, **kwargs), torch.device(device))
        # What has no dimension may be on the CPU, and so may an index.
        places = {place(tensor) for tensor in tensors if tensor.dim()}
        if name in ("__getitem__", "__setitem__"):
            places = {place(args[0]), *(places - {_CPU})}
        if len(places) > 1 and name != "_has_compatible_shallow_copy_type":
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {places}")
        return put(func(*args, **kwargs), next(iter(places), place(tensors[0]) if tensors else _CPU))


def _moved(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    tensor, given, device = args[0], [], _CPU if name == "cpu" else None
    for one in (*args[1:], *([kwargs.pop("device")] if "device" in kwargs else [])):
        if isinstance(one, torch.Tensor):
            device = place(one)
            given.append(one.dtype)
        elif isinstance(one, torch.device | str):
            device = torch.device(one)
        elif isinstance(one, torch.dtype):
            given.append(one)
    kwargs.pop("non_blocking", None)
    device = device or place(tensor)
    found = tensor.to(*given, **kwargs) if given or kwargs else tensor
    if found is tensor and place(tensor) != device:
        found = tensor.clone()
    return found if found is tensor else put(found, device)


class _Hook(AlignDevicesHook):
    """accelerate's, for weights that are where they belong."""

    def init_hook(self, module):
        return module


def on_card(module: Any, number: int) -> None:
    """Put a module on a card, as a device_map would."""
    device = torch.device("cuda", number)
    put([*module.parameters(), *module.buffers()], device)
    add_hook_to_module(module, _Hook(execution_device=device, skip_keys="past_key_values"))

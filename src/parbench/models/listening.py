"""Listening to attention kernels: what attention modules of any model give them, through transformers' registry of kernels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from parbench.models.attention import AttentionInputs

# Gets what a module gives its kernel.
Take = Callable[[AttentionInputs], None]


@dataclass(frozen=True, eq=False)
class _Listener:
    """Takes by attention module, and whether the kernel runs afterwards."""

    takes: Mapping[nn.Module, Take]
    runs: bool


class _Heard:
    """Stands in the registry for a kernel, tells all listeners, and runs the kernel.

    Args:
        name: The kernel's name in configurations.
        kernel: The registered kernel. None if there is none: ``eager`` is a function of each modelling file.
    """

    def __init__(self, name: str, kernel: Callable[..., Any] | None) -> None:
        self.name, self.kernel = name, kernel
        self.users = 0

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        for listener in reversed(_LISTENERS):
            if (take := listener.takes.get(module)) is None:
                continue
            scaling = kwargs.get("scaling")
            factor = query.shape[-1] ** -0.5 if scaling is None else scaling
            take(AttentionInputs(query, key, factor, kwargs.get("softcap"), value))
            if not listener.runs:
                return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None
        kernel = _own_eager(module) if self.kernel is None else self.kernel
        found: tuple[Tensor, Tensor | None] = kernel(module, query, key, value, attention_mask, **kwargs)
        return found


# The newest last. A tuple, so that a kernel that is running sees no changes.
_LISTENERS: tuple[_Listener, ...] = ()
_KERNELS: dict[str, _Heard] = {}
_LOCK = Lock()


def _own_eager(module: nn.Module) -> Callable[..., Any]:
    """The eager attention of a module's modelling file, which transformers uses unless a registered kernel replaces it."""
    found: Callable[..., Any] = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
    return found


@contextmanager
def listening(takes: Mapping[nn.Module, Take], *, runs: bool = True) -> Iterator[None]:
    """Inside the block, each attention module in ``takes`` tells its take what it gives its kernel, before the kernel runs.

    The registry is as before after the last of all blocks, also after errors. Blocks may be nested and may overlap, in any order
    and in several threads: each hears the modules that it names. A module in several blocks tells the innermost first.

    Args:
        takes: By attention module, with ``config._attn_implementation``.
        runs: False: instead of running the kernel, its output is zeros, and outer blocks hear nothing.
    """
    global _LISTENERS
    listener = _Listener(dict(takes), runs)
    names = {_kernel(module) for module in listener.takes}
    with _LOCK:
        for name in names:
            _register(name)
        _LISTENERS = (*_LISTENERS, listener)
    try:
        yield
    finally:
        with _LOCK:
            _LISTENERS = tuple(one for one in _LISTENERS if one is not listener)
            for name in names:
                _release(name)


def _kernel(module: Any) -> str:
    name: str = module.config._attn_implementation
    return name


def _register(name: str) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if name not in _KERNELS:
        _KERNELS[name] = ALL_ATTENTION_FUNCTIONS[name] = _Heard(name, ALL_ATTENTION_FUNCTIONS.get(name))
    _KERNELS[name].users += 1


def _release(name: str) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    heard = _KERNELS[name]
    heard.users -= 1
    if heard.users:
        return
    del _KERNELS[name], ALL_ATTENTION_FUNCTIONS[name]
    # An instance's own entry hides a registered one, so removing ours shows what all instances share, or nothing.
    if heard.kernel is not None and ALL_ATTENTION_FUNCTIONS.get(name) is not heard.kernel:
        ALL_ATTENTION_FUNCTIONS[name] = heard.kernel


class _Without(TorchFunctionMode):
    """Inside the block, in this thread alone, some linear layers give zeros without being computed.

    A layer that does not call torch's ``linear`` with its own weight, such as a quantized one, is computed.

    Args:
        layers: The linear layers; None stands for one that a model does not have.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        self.layers = [layer for layer in layers if layer is not None]

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is F.linear and not kwargs and any(args[1] is layer.weight for layer in self.layers):
            # One number in memory, whatever the shape.
            return args[0].new_zeros(()).expand(*args[0].shape[:-1], args[1].shape[0])
        return func(*args, **(kwargs or {}))


def attention_inputs(
    layer: Any, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor], *, queries: bool = True
) -> AttentionInputs:
    """The attention inputs of ``layer`` if ``hidden`` [B, S, d] were the input of the layer. No KV cache is touched.

    Values and the output of the attention are not computed where the layer has projections of their own for them.

    Args:
        layer: A decoder layer.
        hidden: [B, S, d].
        position_embeddings: Cosines and sines for it.
        queries: False: queries are not computed either, and those of the result mean nothing.

    Raises:
        RuntimeError: The layer does not use transformers' registry of attention kernels.
    """
    heard: list[AttentionInputs] = []
    normed = layer.input_layernorm(hidden)
    cosines, sines = position_embeddings
    turned = (cosines.to(normed.device), sines.to(normed.device))
    attention = layer.self_attn
    unused = [getattr(attention, name, None) for name in ("v_proj", "o_proj", *(() if queries else ("q_proj",)))]
    with listening({attention: heard.append}, runs=False), _Without(*unused):
        # Not called as a module, since hooks, such as those that record attention, belong to the real run.
        attention.forward(normed, position_embeddings=turned, attention_mask=None)
    if not heard:
        raise RuntimeError(f"{type(attention).__name__} does not use transformers' registry of attention kernels")
    return heard[0]

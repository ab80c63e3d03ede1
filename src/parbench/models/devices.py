"""Devices and dtypes by name."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from parbench.errors import ParbenchError
from parbench.models.names import DTYPE_NAMES, check_device_name, check_dtype_name

DTYPES = {name: getattr(torch, name) for name in DTYPE_NAMES}


def resolve_device(device: str) -> torch.device:
    """The torch device of a name; ``auto`` is CUDA if available, else the CPU.

    Raises:
        ParbenchError: CUDA is requested but not available, or the name is not a device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device_name(device)
    chosen = torch.device(device)
    if chosen.type == "cuda" and torch.cuda.is_available() and (chosen.index or 0) >= torch.cuda.device_count():
        raise ParbenchError(
            f"model.device={device}, but the CUDA devices of this machine are cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ParbenchError(f"model.device={device}, but this machine or this build of torch has no CUDA: use model.device=cpu")
    return chosen


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        ParbenchError: The name is not one of ``DTYPES``.
    """
    check_dtype_name(dtype)
    found: torch.dtype = DTYPES[dtype]
    return found


def device_name(device: torch.device) -> str:
    """The product name of a GPU, or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

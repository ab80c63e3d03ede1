"""Names of devices and dtypes, checked without torch."""

from __future__ import annotations

import re
from typing import Any

from parbench.errors import ParbenchError

DTYPE_NAMES = ("float32", "bfloat16", "float16")


def check_device_name(device: Any) -> None:
    """Refuse a name that is not a device on any machine.

    Raises:
        ParbenchError: It is none.
    """
    if not re.fullmatch(r"auto|cpu(:\d+)?|cuda(:\d+)?", str(device)):
        raise ParbenchError(f"model.device={device} is not a device: use auto, cpu, cuda or cuda:0")


def check_dtype_name(dtype: Any) -> None:
    """Refuse what no model is loaded in.

    Raises:
        ParbenchError: It is not one of ``DTYPE_NAMES``.
    """
    if dtype not in DTYPE_NAMES:
        raise ParbenchError(f"model.dtype={dtype} is not supported: use one of {', '.join(DTYPE_NAMES)}")

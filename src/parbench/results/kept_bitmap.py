"""Sets of patches as hexadecimal bit masks, as stored in a sample's line: patch 0 is the highest bit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def bitmap(patches: Iterable[int], total: int) -> str:
    """The hexadecimal mask of some patches out of ``total``."""
    bits = 0
    for patch in set(patches):
        bits |= 1 << (total - 1 - patch)
    return f"{bits:0{-(-total // 4)}x}"


def kept_bits(mask: str, total: int) -> np.ndarray:
    """Bool array [total]: whether each patch is in a mask."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(mask.zfill(len(mask) + len(mask) % 2)), dtype=np.uint8))
    return bits[len(bits) - total :].astype(bool)

"""A part of a data set's questions: ``shard=i/n``."""

from __future__ import annotations

import re
from typing import Any

from parbench.errors import ParbenchError

# Which part, counted from 0, of how many.
Shard = tuple[int, int]


def parse_shard(value: Any) -> Shard | None:
    """``i/n`` as numbers; None for the whole, which 0/1 is too.

    Raises:
        ParbenchError: It is not a part of anything.
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", str(value))
    part, parts = map(int, found.groups()) if found else (1, 0)
    if part >= parts:
        raise ParbenchError(f"shard={value} is not a part: write shard=i/n with i from 0 to n - 1, such as shard=0/4")
    return (part, parts) if parts > 1 else None

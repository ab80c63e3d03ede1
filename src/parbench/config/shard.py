"""Shards of a data set's questions: ``shard=i/n``."""

from __future__ import annotations

import re
from typing import Any

from parbench.errors import ParbenchError

# (index from 0, number of shards)
Shard = tuple[int, int]


def parse_shard(value: Any) -> Shard | None:
    """Parse ``i/n``; None for the whole data set, also for 0/1.

    Raises:
        ParbenchError: The value is not a valid shard.
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", str(value))
    part, parts = map(int, found.groups()) if found else (1, 0)
    if part >= parts:
        raise ParbenchError(f"shard={value} is not a part: write shard=i/n with i from 0 to n - 1, such as shard=0/4")
    return (part, parts) if parts > 1 else None

"""The readers of a user's own data."""

from __future__ import annotations

from parbench.harness.local.easy_vqa import easy_vqa_rows
from parbench.harness.local.own_task import own_rows
from parbench.harness.local.rows import fingerprint, local_rows

__all__ = ["SOURCES", "fingerprint"]

# The function that gives the rows, by ``source`` of a ``conf/dataset`` mapping.
SOURCES = {"local": local_rows, "easy-vqa": easy_vqa_rows, "task": own_rows}

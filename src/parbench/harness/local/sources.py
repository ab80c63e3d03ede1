"""Where the rows of one's own data come from."""

from __future__ import annotations

from parbench.harness.local.easy_vqa import easy_vqa_rows
from parbench.harness.local.own_task import own_rows
from parbench.harness.local.rows import fingerprint, local_rows

__all__ = ["SOURCES", "fingerprint"]

# By ``source`` of a ``conf/dataset`` mapping, what gives its rows.
SOURCES = {"local": local_rows, "easy-vqa": easy_vqa_rows, "task": own_rows}

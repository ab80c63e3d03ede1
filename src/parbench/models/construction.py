"""One thread at a time builds or loads a model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_LOCK = threading.RLock()


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Let other threads wait while a model is built or loaded, inside the block or the decorated function.

    Meanwhile transformers replaces the functions of ``torch.nn.init`` for the whole process, and puts back what it found. If two
    threads overlapped, the second would put back the replacements of the first, and every module that is created later would have
    weights that nobody has set.
    """
    with _LOCK:
        yield

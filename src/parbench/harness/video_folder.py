"""Where lmms-eval's tasks look for their videos: below HF_HOME, in a folder that the task's YAML names."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import RLock
from typing import Any

from parbench.errors import ParbenchError

# Tasks read the variable when they are imported, or when they are called, which several threads do.
_LOCK = RLock()


class VideoFolder:
    """The folder of a data set's videos, as its task finds it.

    Args:
        settings: The ``conf/dataset`` mapping.
        cache: ``cache_dir`` of the task: the folder below HF_HOME.

    Attributes:
        place: The folder.

    Raises:
        ParbenchError: ``dataset.videos`` is no folder, or the task does not look below HF_HOME.
    """

    def __init__(self, settings: Mapping[str, Any], cache: str | None) -> None:
        given = settings.get("videos")
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        self.place = home / (cache or "")
        if given is not None:
            self.place = Path(given).expanduser().resolve()
            if not self.place.is_dir():
                raise ParbenchError(f"dataset.videos={given} is not a folder: give the one that holds the videos")
            if not cache or Path(cache).is_absolute():
                raise ParbenchError(f"dataset.videos means nothing for {settings['name']}, whose task says itself where videos are")
            # The task's own path, with a link in place of the folder that it would download to.
            home = Path(mkdtemp(prefix="parbench-"))
            weakref.finalize(self, rmtree, home, ignore_errors=True)
            link = home / cache
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.place, target_is_directory=True)
        self._home = str(home)

    @contextlib.contextmanager
    def found(self) -> Iterator[None]:
        """Inside the block, the task's functions find the videos."""
        with _LOCK:
            before = os.environ.get("HF_HOME")
            os.environ["HF_HOME"] = self._home
            try:
                yield
            finally:
                if before is None:
                    del os.environ["HF_HOME"]
                else:
                    os.environ["HF_HOME"] = before

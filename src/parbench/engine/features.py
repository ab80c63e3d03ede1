"""Cache of the vision features of images, across questions, methods and budgets."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from parbench.errors import FatalError, ParbenchError
from parbench.files import write_whole
from parbench.models.vision import Encoded


@dataclass(frozen=True)
class Known:
    """An image that was read before.

    Attributes:
        digest: Sha256 of its pixels.
        name: Key of its features in the cache.
        size: Its width and height.
        times: Seconds of the frames of a video; None for an image.
    """

    digest: str
    name: str
    size: tuple[int, int]
    times: tuple[float, ...] | None = None


class FeatureCache:
    """A cache of features by image content.

    A sweep reads the same images in the same order for each of its runs. So what makes room is the image that was used last before
    the new one: it is the one that will be asked for latest. If the oldest made room, a cache that is a little too small would
    never hold what is asked for.

    Args:
        limit: Maximum bytes in memory; 0 caches nothing.
        folder: Folder in which features are also stored; None for none.
        subject: Everything else on which features depend: the model's weights, dtype, kernel.
        device: Device of features that are read from the folder.

    Attributes:
        images: The images of each source that was read before (see ``Sample.source``).
    """

    def __init__(self, limit: int = 0, folder: Path | None = None, subject: str = "", device: str = "cpu") -> None:
        self.limit, self.size, self.device = limit, 0, device
        self.images: dict[str, tuple[Known, ...]] = {}
        self._held: OrderedDict[str, Encoded] = OrderedDict()
        self._folder = folder / hashlib.sha256(subject.encode()).hexdigest()[:16] if folder else None

    def holds(self, image: str, blocks: Sequence[int]) -> bool:
        """Whether the features of an image are cached, probably with the requested blocks. Safe to call from any thread."""
        if (found := self._held.get(image)) is not None:
            return all(found.has(block) for block in blocks)
        return self._folder is not None and (self._folder / f"{image}.safetensors").exists()

    def get(self, image: str, blocks: Sequence[int]) -> Encoded | None:
        """The cached features of an image [1, N, C]; None if they lack queries and keys of the requested vision blocks."""
        found = self._held.get(image)
        if found is None and self._folder and (path := self._folder / f"{image}.safetensors").exists():
            found = _read(path, self.device)
        if found is None or not all(found.has(block) for block in blocks):
            return None
        self._hold(image, found)
        return found

    def put(self, image: str, encoded: Encoded) -> Encoded:
        """Cache the features of an image, in addition to blocks that are cached already. Returns all of them."""
        if (before := self._held.get(image)) is not None:
            encoded = encoded.beside(before)
        if self._folder:
            _write(self._folder / f"{image}.safetensors", encoded)
        self._hold(image, encoded)
        return encoded

    def _hold(self, image: str, encoded: Encoded) -> None:
        if (before := self._held.pop(image, None)) is not None:
            self.size -= before.nbytes
        if encoded.nbytes > self.limit:
            return
        self._held[image] = encoded
        self.size += encoded.nbytes
        while self.size > self.limit:
            before_last = list(self._held)[-2]
            self.size -= self._held.pop(before_last).nbytes


def _write(path: Path, encoded: Encoded) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: value.cpu().contiguous() for name, value in encoded.tensors().items()}
    said = {"rows": str(encoded.grid[0]), "columns": str(encoded.grid[1]), "projected": str(int(encoded.projected))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may write the same image at the same time.
        write_whole(path, lambda partial: save_file(tensors, partial, said), shared=True)
    except (OSError, SafetensorError) as error:
        raise FatalError(
            f"features cannot be written to {path.parent} ({error}): make room, or set engine.cache_dir=null, then run the "
            "same command "
            "again to resume"
        ) from error


def _read(path: Path, device: str) -> Encoded:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=device) as file:
            said = file.metadata()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError) as error:
        raise ParbenchError(f"the cached features in {path} are damaged ({error}): delete the file") from error
    grid = (int(said["rows"]), int(said["columns"]))
    return Encoded.of_tensors(tensors, grid, projected=said.get("projected") == "1")

"""Vision features of images, remembered across questions, methods and budgets."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from parbench.errors import FatalError, ParbenchError
from parbench.files import write_whole
from parbench.models.vision import Encoded


class FeatureCache:
    """Features by an image's content; the least recently used make room when there are too many bytes.

    Args:
        limit: Bytes held in memory; 0 holds nothing.
        folder: Where features are written as well, and read from; None: nowhere.
        subject: What decides features beside the image: the model's weights, dtype, kernel.
        device: Where features read from the folder go.

    Attributes:
        images: Digest and name of each image of a source of images, as far as it was read before (see ``Sample.source``).
    """

    def __init__(self, limit: int = 0, folder: Path | None = None, subject: str = "", device: str = "cpu") -> None:
        self.limit, self.size, self.device = limit, 0, device
        self.images: dict[str, tuple[tuple[str, str], ...]] = {}
        self._held: OrderedDict[str, Encoded] = OrderedDict()
        self._folder = folder / hashlib.sha256(subject.encode()).hexdigest()[:16] if folder else None

    def holds(self, image: str, blocks: Sequence[int]) -> bool:
        """Whether the features of an image are at hand, most likely with the blocks asked for; any thread may ask."""
        if (found := self._held.get(image)) is not None:
            return all(block in found.queries for block in blocks)
        return self._folder is not None and (self._folder / f"{image}.safetensors").exists()

    def get(self, image: str, blocks: Sequence[int]) -> Encoded | None:
        """What is known of an image [1, N, C], if that includes queries and keys of the vision blocks asked for."""
        found = self._held.get(image)
        if found is None and self._folder and (path := self._folder / f"{image}.safetensors").exists():
            found = _read(path, self.device)
        if found is None or any(block not in found.queries for block in blocks):
            return None
        self._hold(image, found)
        return found

    def put(self, image: str, encoded: Encoded) -> Encoded:
        """Remember an image's features, beside the blocks known before; gives all that is known."""
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
            self.size -= self._held.popitem(last=False)[1].nbytes


def _write(path: Path, encoded: Encoded) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {"features": encoded.features, "cls": encoded.cls, "lengths": encoded.lengths}
    for name, blocks in (("queries", encoded.queries), ("keys", encoded.keys)):
        tensors |= {f"{name}.{block}": value for block, value in blocks.items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    grid = {"rows": str(encoded.grid[0]), "columns": str(encoded.grid[1])}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may write the same image at the same time.
        write_whole(path, lambda partial: save_file(tensors, partial, grid), shared=True)
    except (OSError, SafetensorError) as error:
        raise FatalError(
            f"features cannot be remembered in {path.parent} ({error}): make room, or set engine.cache_dir=null; the same command "
            "then goes on"
        ) from error


def _read(path: Path, device: str) -> Encoded:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=device) as file:
            said = file.metadata()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError) as error:
        raise ParbenchError(f"the remembered features in {path} are damaged ({error}): delete the file") from error
    blocks: dict[str, dict[int, Tensor]] = {"queries": {}, "keys": {}}
    for name, value in tensors.items():
        kind, dot, block = name.partition(".")
        if dot:
            blocks[kind][int(block)] = value
    grid = (int(said["rows"]), int(said["columns"]))
    return Encoded(tensors["features"], tensors["cls"], grid, tensors["lengths"], blocks["queries"], blocks["keys"])

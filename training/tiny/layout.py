"""How the patches of a window become visual tokens, and what each token shows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from parbench.scenes.world import PATCH, Window
from tiny.referents import Centre, words_of_patches
from tiny.vision_stage import Picture


@dataclass(frozen=True)
class Layout:
    """The visual tokens of a model: squares of ``merge`` x ``merge`` patches, in raster order."""

    merge: int = 1

    def sides(self, window: Window) -> tuple[int, int]:
        """Rows and columns of a window's tokens."""
        return window.height // self.merge, window.width // self.merge

    def count(self, window: Window) -> int:
        """Number of a window's tokens."""
        rows, columns = self.sides(window)
        return rows * columns

    def at(self, centre: Centre, window: Window) -> int:
        """The index of the token that contains a point of the canvas."""
        column, row = (int(value // PATCH) for value in centre)
        return (row - window.row) // self.merge * self.sides(window)[1] + (column - window.column) // self.merge

    def centres(self, window: Window) -> np.ndarray:
        """Centres (x, y) of the tokens in pixels of the canvas [N, 2]."""
        rows, columns = self.sides(window)
        row, column = np.divmod(np.arange(rows * columns), columns)
        half = self.merge / 2
        x, y = window.column + column * self.merge + half, window.row + row * self.merge + half
        return np.stack([x, y], axis=1) * PATCH

    def grouped(self, values: np.ndarray, window: Window) -> np.ndarray:
        """Values of the patches [rows * columns] by token [N, merge * merge]."""
        rows, columns = self.sides(window)
        blocks = values.reshape(rows, self.merge, columns, self.merge).transpose(0, 2, 1, 3)
        return blocks.reshape(rows * columns, self.merge * self.merge)

    def shows(self, picture: Picture, numbers: Collection[int]) -> np.ndarray:
        """Whether each token shows one of some objects and signs, which are numbered as in ``Picture.owner``; bool [N]."""
        found = self.grouped(np.isin(picture.owner, list(numbers)), picture.scene.window).max(axis=1)
        return np.asarray(found)

    def owner(self, picture: Picture) -> np.ndarray:
        """The number of the object or sign in most patches of each token that show one; 0 for background. [N]"""
        if self.merge == 1:
            return picture.owner
        groups = self.grouped(picture.owner, picture.scene.window)
        result = np.zeros(len(groups), dtype=np.int64)
        best = np.zeros(len(groups), dtype=np.int64)
        for value in np.unique(groups[groups != 0]):
            patches = (groups == value).sum(axis=1)
            result[patches > best] = value
            best = np.maximum(best, patches)
        return result

    def words(self, picture: Picture) -> list[tuple[int, tuple[str, ...]]]:
        """Tokens with words for what they show: one entry for each different description among a token's patches."""
        width, columns = picture.scene.window.width, self.sides(picture.scene.window)[1]
        found: dict[tuple[int, tuple[str, ...]], None] = {}
        for index, said in words_of_patches(picture):
            row, column = divmod(index, width)
            found[row // self.merge * columns + column // self.merge, said] = None
        return list(found)


# Each patch is a token, as in LLaVA.
PATCHES = Layout()

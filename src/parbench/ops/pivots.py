"""Tokens that several pivots take in turn, and the order of pivots that a Python set of integers has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# CPython's constants (Objects/setobject.c): slots of an empty set, slots that are tried behind one another, bits of a perturbation.
_SLOTS, _BEHIND, _SHIFT = 8, 9, 5


def set_order(values: Sequence[int]) -> list[int]:
    """The order in which CPython iterates over a set that was filled with ``values`` one by one.

    A value goes to the slot of its number modulo the number of slots, or to the next free one by CPython's probing. When three
    fifths of the slots are taken, the set grows to more than four slots for each value. Values are iterated slot by slot.

    Args:
        values: Distinct integers, 0 or more, as they are put in.
    """
    table: list[int | None] = [None] * _SLOTS
    for count, value in enumerate(values, start=1):
        _put(table, value)
        if 5 * count >= 3 * (len(table) - 1):
            entries = [entry for entry in table if entry is not None]
            size = _SLOTS
            while size <= 4 * count:
                size *= 2
            table = [None] * size
            for entry in entries:
                _put(table, entry)
    return [entry for entry in table if entry is not None]


def _put(table: list[int | None], value: int) -> None:
    mask = len(table) - 1
    slot, perturb = value & mask, value
    while True:
        behind = _BEHIND if slot + _BEHIND <= mask else 0
        for place in range(slot, slot + behind + 1):
            if table[place] is None:
                table[place] = value
                return
        perturb >>= _SHIFT
        slot = (5 * slot + 1 + perturb) & mask


def least_similar_in_turn(similarity: Tensor, pool: Tensor, shares: Tensor) -> Tensor:
    """Each pivot in turn takes the tokens that are least similar to it of those that are left; ties: the lower index first.

    Args:
        similarity: [E, P, N] of each pivot to each token.
        pool: [E, N] bool, the tokens that may be taken.
        shares: [E, P] number of tokens that each pivot takes, as far as there are any left.

    Returns:
        [E, N] the pivot that takes each token; -1 for none.
    """
    taken = torch.full(pool.shape, -1, device=pool.device)
    for turn in range(similarity.shape[1]):
        order = similarity[:, turn].masked_fill(~pool, float("inf")).argsort(dim=1, stable=True)
        mine = pool & (order.argsort(dim=1) < shares[:, turn, None])
        taken, pool = taken.masked_fill(mine, turn), pool & ~mine
    return taken

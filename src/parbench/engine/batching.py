"""Planning of batches from the samples alone, and their distribution to shards."""

from __future__ import annotations

from collections.abc import Sequence

from parbench.engine.samples import Sample
from parbench.errors import ParbenchError

# Number of batches within which samples are sorted by length.
_WINDOW = 8


def together(samples: Sequence[Sample]) -> list[int]:
    """For each sample, the index of the first sample of its group: samples that share images, or a unit."""
    first = list(range(len(samples)))

    def found(number: int) -> int:
        while first[number] != number:
            first[number] = number = first[first[number]]
        return number

    seen: dict[tuple[str, str], int] = {}
    for number, sample in enumerate(samples):
        names = [("group", sample.group)] + ([] if sample.unit is None else [("unit", sample.unit)])
        for name in names:
            one, other = sorted((found(seen.setdefault(name, number)), found(number)))
            first[other] = one
    return [found(number) for number in range(len(samples))]


def plan(samples: Sequence[Sample], batch_size: int) -> list[list[int]]:
    """Batches of sample indices. They depend on the samples alone, so a resumed run has the same batches, and so the same rounding.

    Samples of a group (an image) or unit stay together if they fit into a batch. Within a window of a few batches, groups are
    sorted by their longest question to reduce padding.

    Conversations are planned by their first questions: a batch of these is followed by one of the second ones, and so on.
    """
    if any(sample.turn > 1 for sample in samples):
        return _by_turn(samples, batch_size)
    groups: dict[int, list[int]] = {}
    for number, first in enumerate(together(samples)):
        groups.setdefault(first, []).append(number)
    windows: list[list[list[int]]] = [[]]
    for group in groups.values():
        if sum(map(len, windows[-1])) >= _WINDOW * batch_size:
            windows.append([])
        windows[-1].append(group)
    batches: list[list[int]] = []
    for window in windows:
        batch: list[int] = []
        for group in sorted(window, key=lambda members: max(len(samples[n].question) for n in members)):
            if batch and len(batch) + len(group) > batch_size:
                batches.append(batch)
                batch = []
            batch += group
            while len(batch) > batch_size:
                batches.append(batch[:batch_size])
                batch = batch[batch_size:]
        if batch:
            batches.append(batch)
    return batches


def _by_turn(samples: Sequence[Sample], batch_size: int) -> list[list[int]]:
    """Batches of samples of one turn, those of the same conversations one after the other."""
    conversations: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        conversations.setdefault(sample.group, []).append(number)
    together = list(conversations.values())
    batches = []
    for batch in plan([samples[members[0]] for members in together], batch_size):
        last = max(len(together[place]) for place in batch)
        batches += [[together[place][turn] for place in batch if turn < len(together[place])] for turn in range(last)]
    return batches


def part(samples: Sequence[Sample], batches: Sequence[Sequence[int]], shard: tuple[int, int]) -> list[Sequence[int]]:
    """Part i of n of a plan: consecutive batches, about equally many per part, with no group or unit in two parts.

    Raises:
        ParbenchError: There are fewer than n batches that share no group.
    """
    number, of = shard
    firsts = together(samples)
    # Batches that share a group stay together; they are consecutive.
    units: list[list[Sequence[int]]] = []
    for batch in batches:
        joined = units and not {firsts[number] for number in units[-1][-1]}.isdisjoint(firsts[number] for number in batch)
        units[-1].append(batch) if joined else units.append([batch])
    if len(units) < of:
        raise ParbenchError(
            f"shard={number}/{of} has too many shards: {len(samples)} questions make {len(units)} batches that share no "
            "image, so use "
            f"at most {len(units)} shards, or a smaller engine.batch_size"
        )
    return [batch for unit in units[number * len(units) // of : (number + 1) * len(units) // of] for batch in unit]

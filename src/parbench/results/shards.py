"""Finds shards of runs, and checks that they are complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from parbench.config.shard import parse_shard
from parbench.errors import ParbenchError
from parbench.results.naming import row_name
from parbench.results.plan import read_plan
from parbench.results.run_identity import FILE, read_provenance, run_id
from parbench.results.samples import FILE as SAMPLES
from parbench.results.samples import count_samples


@dataclass(frozen=True)
class Shard:
    """The run of one shard.

    Attributes:
        folder: Its folder.
        identity: Its identity.
        computed_by: The code and devices that computed it.
        number: Its index, from 0.
        of: Number of shards.
    """

    folder: Path
    identity: Mapping[str, Any]
    computed_by: tuple[Mapping[str, Any], ...]
    number: int
    of: int

    @property
    def name(self) -> str:
        """The shard as the configuration writes it, such as ``0/4``."""
        return f"{self.number}/{self.of}"

    @property
    def whole(self) -> dict[str, Any]:
        """The identity of the unsharded run."""
        return {**self.identity, "shard": None}

    @property
    def run(self) -> str:
        """A description of the unsharded run, for messages."""
        return f"{row_name(self.identity['method'])} on {self.identity['dataset']['name']}"

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Its plan: batch size and number of questions."""
        return read_plan(self.folder)

    @property
    def finished(self) -> bool:
        """Whether all of its questions are answered."""
        return (self.folder / "metrics.json").exists()


def find_shards(paths: Sequence[Path]) -> list[list[Shard]]:
    """The shards in some folders, grouped by unsharded run and number of shards.

    Raises:
        ParbenchError: There are no shards.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise ParbenchError(f"{path} is not a folder: give folders of runs, or of shards")
        inside = [path] if (path / FILE).exists() else sorted(path.iterdir())
        folders |= {one.resolve(): one for one in inside if (one / FILE).exists()}
    sets: dict[tuple[str, int], list[Shard]] = defaultdict(list)
    for folder in folders.values():
        provenance = read_provenance(folder / FILE)
        if found := parse_shard(provenance.identity.get("shard")):
            shard = Shard(folder, provenance.identity, provenance.computed_by, *found)
            sets[run_id(shard.whole), shard.of].append(shard)
    if not sets:
        raise ParbenchError(f"there is no shard in {', '.join(map(str, paths))}: evaluate with shard=0/2 and shard=1/2 first")
    return list(sets.values())


def check_whole(shards: Sequence[Shard], others: Sequence[Shard] = ()) -> list[Shard]:
    """A run's shards in order, checked to be complete.

    Args:
        shards: Shards of one run.
        others: Shards of other runs, one of which may be the missing one with a slightly different configuration.

    Raises:
        ParbenchError: A shard is missing, duplicated, unfinished, or has another plan; the message names it.
    """
    of, wrong = shards[0].of, []
    by_number: dict[int, list[Shard]] = defaultdict(list)
    for shard in shards:
        by_number[shard.number].append(shard)
    for number in range(of):
        mine = by_number[number]
        if not mine:
            wrong.append(f"{number}/{of} is missing{_meant(shards[0], number, others)}")
        elif len(mine) > 1:
            wrong.append(f"{number}/{of} is present {len(mine)} times ({', '.join(str(one.folder) for one in mine)})")
        elif not mine[0].finished:
            done = count_samples(mine[0].folder / SAMPLES)
            wrong.append(f"{number}/{of} is not finished ({done} of {mine[0].plan.get('questions', '?')} questions)")
    sizes = {shard.plan.get("batch_size") for shard in shards if shard.finished}
    if len(sizes) > 1:
        wrong.append(f"they were planned with batches of {' and '.join(map(str, sizes))} (give engine.batch_size)")
    if wrong:
        raise ParbenchError(f"the shards of {shards[0].run} are incomplete: {'; '.join(wrong)}")
    return [by_number[number][0] for number in range(of)]


def _meant(shard: Shard, number: int, others: Sequence[Shard]) -> str:
    """A hint for a missing shard: the shard with that number of a run that differs in little; empty if there is none."""
    for other in others:
        differing = [key for key in shard.whole if shard.whole[key] != other.whole.get(key)]
        if other.number == number and len(differing) <= 2 and other.folder.parent == shard.folder.parent:
            what = " and ".join(differing) if differing else "the number of shards"
            return f" ({other.folder} is {other.name} of {other.run}, another run, which differs in {what})"
    return ""

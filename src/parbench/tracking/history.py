"""The history of a run, computed from its samples alone, so that a resumed run has the same history as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from parbench.results.record import SampleRecord

Point = tuple[int, dict[str, float]]


class History:
    """Running means over the questions answered so far, at regular intervals.

    Args:
        every: Number of questions between two points.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.points: list[Point] = []
        self._seen = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._units: dict[str, float] = {}

    def take(self, lines: Mapping[str, SampleRecord]) -> list[Point]:
        """The new points.

        Args:
            lines: All samples so far, by id, in order.
        """
        before = len(self.points)
        fresh = list(islice(reversed(lines.values()), len(lines) - self._seen))  # type: ignore[call-overload]
        for line in reversed(fresh):
            self._add(line)
            if self._seen % self.every == 0:
                self.points.append(self._point())
        return self.points[before:]

    def end(self) -> list[Point]:
        """The last point, unless the run ends exactly at one."""
        if self._seen == 0 or (self.points and self.points[-1][0] == self._seen):
            return []
        self.points.append(self._point())
        return self.points[-1:]

    def _add(self, line: SampleRecord) -> None:
        self._seen += 1
        failed = line.error is not None
        self._accuracy(line)
        self._mean("failures", float(failed))
        self._mean("unparseable", float(bool(line.unparseable)))
        if failed:
            return
        self._mean("seconds_per_sample", line.seconds)
        if line.images and line.tokens_kept is not None:
            self._mean("tokens_kept", line.tokens_kept / line.images)
        self._mean("evidence_recall", line.evidence_recall)

    def _accuracy(self, line: SampleRecord) -> None:
        """Add a sample to the accuracy; samples of one unit are right only together."""
        unit, score = line.unit or line.id, line.score
        if score is None:
            return
        if unit in self._units:
            self._sums["accuracy"] += min(0.0, score - self._units[unit])
        else:
            self._mean("accuracy", score)
        self._units[unit] = min(score, self._units.get(unit, score))

    def _mean(self, name: str, value: float | None) -> None:
        if value is None:
            return
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1

    def _point(self) -> Point:
        counted = ("failures", "unparseable")
        means = {f"so_far/{name}": total / self._counts[name] for name, total in self._sums.items() if name not in counted}
        return self._seen, {
            "questions": self._seen,
            **means,
            **{f"so_far/{name}": self._sums[name] for name in counted},
        }

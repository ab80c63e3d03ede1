"""The state of the runs in a folder, read from their files alone, also while they are running."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.locks import LockOwner
from parbench.progress import duration
from parbench.results.metrics import read_metrics
from parbench.results.naming import row_name
from parbench.results.packed import is_there, packed_in
from parbench.results.run_identity import FILE, read_provenance
from parbench.results.samples import FILE as SAMPLES
from parbench.results.samples import count_samples
from parbench.results.store import computing

STATES = ("running", "waiting", "stopped", "failed", "damaged", "done")


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
        run_id: Name of its folder.
        model: Model.
        dataset: Data set.
        method: Method.
        budget: Tokens per image, or None for the method's own rule.
        limit: The number of questions that the run is limited to, or None.
        shard: Its shard of the questions, or None.
        done: Number of questions answered.
        total: Number of questions; None if they are not counted yet.
        state: ``running`` (a process computes it), ``waiting`` (not started), ``stopped`` (started, but no process computes
            it), ``failed`` (for ``reason``), ``damaged`` (a file cannot be read: ``reason``) or ``done``.
        holder: The process that computes it.
        rate: Questions per second of that process.
        reason: Why it failed, or what is damaged.
        per_image: Whether each image keeps exactly the budget, for a method that otherwise keeps it on average.
    """

    run_id: str
    model: str
    dataset: str
    method: str
    budget: float | None
    limit: int | None
    shard: str | None
    done: int
    total: int | None
    state: str
    holder: str | None = None
    rate: float | None = None
    reason: str | None = None
    per_image: bool = False

    @property
    def name(self) -> str:
        """Method and budget."""
        return row_name({"name": self.method, "budget": self.budget, "per_image": self.per_image})

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until a running one is done; None if unknown."""
        return (self.total - self.done) / self.rate if self.rate and self.total is not None else None

    def to_json(self) -> dict[str, Any]:
        """All fields, for scripts."""
        return {**asdict(self), "seconds_left": self.seconds_left}


def overview(root: Path) -> list[RunState]:
    """All runs in a folder, including damaged ones, ordered by model, data set, method, budget and shard.

    Other folders are skipped.
    """
    folders = [*sorted(path.parent for path in root.glob(f"*/{FILE}")), *(root / name for name in packed_in(root))]
    found = [state for folder in folders if (state := _state(folder))]
    return sorted(found, key=lambda run: (run.model, run.dataset, run.method, run.budget or 0, run.shard or ""))


def _state(folder: Path) -> RunState | None:
    try:
        identity = read_provenance(folder / FILE).identity
        about = {
            "run_id": folder.name,
            "model": " ".join(filter(None, (identity["model"], (identity.get("quantization") or {}).get("name")))),
            "dataset": identity["dataset"]["name"],
            "method": identity["method"]["name"],
            "budget": identity["method"]["budget"],
            "limit": identity["limit"],
            "shard": identity.get("shard"),
            "per_image": bool(identity["method"].get("per_image")),
        }
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        unknown = dict.fromkeys(("model", "dataset", "method"), "?")
        return _damaged(folder / FILE, error, {**unknown, "run_id": folder.name, "budget": None, "limit": None, "shard": None}, 0)
    except (KeyError, TypeError, AttributeError, ValueError):
        # A file of that name that is not parbench's.
        return None
    done, total = count_samples(folder / SAMPLES), _read(folder / "plan.json").get("questions")
    if is_there(path := folder / "metrics.json"):
        try:
            count = read_metrics(path).n
        except ParbenchError as error:
            return _damaged(path, error.__cause__ or error, about, done)
        if not (folder / SAMPLES).exists():
            # The samples are compressed or packed.
            done = count
        if count != done:
            return _damaged(folder / SAMPLES, ValueError(f"{done} samples, and metrics over {count}"), about, done)
        return RunState(**about, done=done, total=total or done, state="done")
    if (by := computing(folder)) is not None:
        return RunState(**about, done=done, total=total, state="running", holder=str(by), rate=_rate(by, done))
    if failed := _read(folder / "failed.json"):
        return RunState(**about, done=done, total=total, state="failed", reason=failed.get("reason"))
    return RunState(**about, done=done, total=total, state="stopped" if done else "waiting")


def _damaged(path: Path, error: BaseException, about: dict[str, Any], done: int) -> RunState:
    said = " ".join(str(error).split()) or type(error).__name__
    return RunState(
        **about, done=done, total=None, state="damaged", reason=f"{path} ({said}): move {path.parent} away and run again"
    )


def _rate(by: LockOwner, done: int) -> float | None:
    if by.since is None or done <= by.done:
        return None
    # The clocks of two machines may differ.
    return (done - by.done) / max(time.time() - by.since, 1.0)


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file of a run; empty if it is missing or damaged, which resuming the run reports."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def summary(runs: Sequence[RunState]) -> str:
    """A summary in one line: the number of runs in each state, and the time left at the rate of the running ones."""
    counts = Counter(run.state for run in runs)
    said = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    left = sum(run.total - run.done for run in runs if run.total is not None and run.state in ("running", "waiting"))
    rate = sum(run.rate or 0.0 for run in runs)
    found = f"{len(runs)} run{'' if len(runs) == 1 else 's'}{': ' if runs else ''}{said}"
    return found + (f"; about {duration(left / rate)} left" if rate else "")

"""``--dry-run`` of ``eval`` and ``sweep``: reports what would be downloaded and computed, and the estimated time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from parbench.errors import ParbenchError, Uncalibrated
from parbench.progress import duration
from parbench.results.status import RunState, overview
from parbench.sweep.skips import skipped

if TYPE_CHECKING:
    from parbench.harness.planned import PlannedRun
    from parbench.harness.preflight import Source
    from parbench.harness.session import Session
    from parbench.sweep.runner import Group


@dataclass(frozen=True)
class Outlook:
    """What would happen to a run.

    Attributes:
        run: The run.
        said: A description in words.
        left: Number of questions left to answer; None if it is not known yet.
    """

    run: PlannedRun
    said: str
    left: int | None


def dry_run(groups: Sequence[Group]) -> int:
    """Print what the groups of a command would download and compute; returns the exit code.

    Raises:
        ParbenchError: The command itself would fail with this error.
    """
    from parbench.harness.session import Session

    before = None
    for group in groups:
        session = Session(group.config, beside=before, elsewhere=True)
        if group.title:
            print(group.title)
        _show_group(session, group)
        before = session
    return 0


def _show_group(session: Session, group: Group) -> None:
    from parbench.harness.planned import plan
    from parbench.harness.preflight import fetchable_data, sources
    from parbench.harness.submission import refuse_split
    from parbench.models.written_sizes import has_small_files, known_geometry

    refuse_split(session.dataset.settings)
    planned = plan(session, group.cells, known_geometry(session.model_settings))
    if has_small_files(session.model_settings):
        session.check_prompts()
    found = [*sources(session, planned), fetchable_data(session)]
    for source in found:
        print(_source_line(source))
    _show_disk(found)
    results = Path(session.config.results_dir)
    known = overview(results) if results.is_dir() else []
    # Without weights the run's id is unknown.
    named = all(source.here for source in found if source.what != "data")
    rows_here = all(source.here for source in found if source.what == "data")
    outlooks = [outlook(session, run, known if named else None, rows_here=rows_here) for run in planned]
    print(f"runs in {results}:")
    for said in dict.fromkeys(f"{one.run.name}: {one.said}" for one in outlooks if one.run.refusal is None):
        print(f"  {said}")
    for said in skipped(planned):
        print(f"  {said}")
    if group.config.variants:
        print("  an experiment's variants are known when its thresholds are")
    print(_time_line(outlooks, rates_of(session, known, results)))


def _source_line(source: Source) -> str:
    from parbench.models.hub import offline, size_text

    name = source.name if source.revision is None else f"{source.name} @ {source.revision[:8]}"
    if source.here:
        return f"{source.what}: {name}: on this machine{f', {source.note}' if source.note else ''}"
    note = f" ({source.note})" if source.note else ""
    if (missing := source.missing) is None:
        why = "not known offline: HF_HUB_OFFLINE is set, and a run would stop here" if offline() else "not known"
        return f"{source.what}: {name}: to be fetched, size {why}{note}"
    files = [file for file in source.files or () if not file.cached]
    large = ", ".join(f"{file.name} {size_text(file.size)}" for file in files if file.size > 50e6)
    return f"{source.what}: {name}: {size_text(missing)} to be fetched in {len(files)} files{f' ({large})' if large else ''}{note}"


def _show_disk(found: Sequence[Source]) -> None:
    from huggingface_hub import constants

    from parbench.models.hub import free_space, size_text

    if all(source.here for source in found):
        return
    cache = Path(constants.HF_HUB_CACHE)
    total = [source.missing for source in found]
    needed = "an unknown size" if None in total else size_text(sum(size or 0 for size in total))
    print(f"disk: {needed} to be fetched, {size_text(free_space(cache))} free in {cache}")


def outlook(session: Session, planned: PlannedRun, known: Sequence[RunState] | None, *, rows_here: bool) -> Outlook:
    """What would happen to a run.

    Args:
        session: Model and data set.
        planned: The run.
        known: The existing runs; None if this run's id cannot be computed because the weights are missing.
        rows_here: Whether the data are on this machine; looking up a threshold needs the fingerprint of its data.
    """
    from parbench.sweep.runner import Job

    if planned.reducer is None:
        return Outlook(planned, "skipped", 0)
    total, threshold = _questions(session), planned.reducer.open_threshold
    said = "to be computed" if total is None else f"to be computed, {total} questions"
    try:
        if threshold and not rows_here:
            raise Uncalibrated("its data would be fetched for it")
        mine = None if known is None else Job.of(session, planned).run
    except ParbenchError:
        # Its threshold is not known yet, or the data that determine its id are missing.
        mine = None
        said += ", after its threshold is found" if threshold else ""
    run = next((run for run in known or () if run.run_id == mine), None)
    if run is not None and run.state == "done":
        return Outlook(planned, f"finished ({session.config.results_dir}/{run.run_id})", 0)
    if run is not None and run.done:
        whole = total if total is not None else run.total
        left = None if whole is None else max(whole - run.done, 0)
        return Outlook(planned, f"{run.state}, {run.done} of {whole or '?'} questions answered", left)
    return Outlook(planned, said, total)


def _questions(session: Session) -> int | None:
    """The number of questions; None if the data would have to be downloaded to count them."""
    from parbench.models.hub import offline

    limit: int | None = session.config.limit
    if session.dataset.settings.get("path") or session.dataset.generated or offline():
        try:
            return session.questions
        except ParbenchError:
            pass
    return limit


def rates_of(session: Session, known: Sequence[RunState], results: Path) -> dict[str, float]:
    """Seconds per question by method, from the latest finished runs of the same model, dtype and device.

    The key ``""`` stands for any method.
    """
    from parbench.models.loading import resolve_device
    from parbench.results.metrics import read_metrics
    from parbench.results.run_identity import FILE, read_provenance

    settings = session.model_settings
    try:
        device = resolve_device(str(settings["device"])).type
    except ParbenchError:
        return {}
    measured: list[tuple[float, str, float]] = []
    for run in known:
        if run.state != "done" or run.model != settings["name"]:
            continue
        try:
            about = read_provenance(results / run.run_id / FILE).identity
            seconds = read_metrics(results / run.run_id / "metrics.json").seconds_per_sample
        except (OSError, ValueError, ParbenchError):
            continue
        same = (about.get("dtype"), str(about.get("device")).partition(":")[0]) == (settings["dtype"], device)
        if same and seconds:
            measured.append(((results / run.run_id / "metrics.json").stat().st_mtime, run.method, seconds))
    rates = {method: seconds for _, method, seconds in sorted(measured)}
    return {**rates, "": fmean(rates.values())} if rates else {}


def seconds_of(outlooks: Sequence[Outlook], rates: dict[str, float]) -> float:
    """Seconds that runs would take at the given seconds per question, without loading and calibration."""
    return sum((one.left or 0) * rates.get(str(one.run.cell.method.name), rates[""]) for one in outlooks)


def _time_line(outlooks: Sequence[Outlook], rates: dict[str, float]) -> str:
    open_runs = [one for one in outlooks if one.left != 0]
    if not open_runs:
        return "time: nothing to compute"
    if not rates:
        return "time: not known, no finished run of this model on this device in there"
    if any(one.left is None for one in open_runs):
        return f"time: about {rates['']:.2g} s a question; how many there are is known when the data are"
    return f"time: about {duration(seconds_of(open_runs, rates))} at the rate last measured there, loading and thresholds aside"

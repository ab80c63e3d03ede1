"""Cells of tables, evaluated one after the other in one process: what they share, and what happens when one fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from omegaconf import DictConfig, OmegaConf

from parbench.errors import FatalError, ParbenchError, RunLockedError, Uncalibrated
from parbench.progress import working
from parbench.results.naming import row_name
from parbench.tracking import tracking_of

if TYPE_CHECKING:
    from parbench.harness.planned import Cell, PlannedRun
    from parbench.harness.progress import Progress
    from parbench.harness.session import Session
    from parbench.harness.tracker import Tracking
    from parbench.reducers import Reducer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Cells that share a model and a data set: one table.

    Attributes:
        config: Model, data set and surroundings.
        cells: Gives the cells, once the session is there.
        title: What tells it from the other groups of a command; empty for a lone one.
        asked: Names of methods of which at least one cell has to run.
    """

    config: DictConfig
    cells: Callable[[Session], Sequence[Cell]]
    title: str = ""
    asked: tuple[str, ...] = ()


@dataclass
class Job:
    """A cell that the model can have.

    Attributes:
        cell: The cell.
        reducer: Its method, ready for the model.
        identity: What tells its run from others.
        run: Its run's id, the hash of that.
        name: What messages call it.
        folder: Its run's folder, once finished.
    """

    cell: Cell
    reducer: Reducer
    identity: Mapping[str, Any]
    run: str
    name: str
    folder: Path | None = None

    @classmethod
    def of(cls, session: Session, planned: PlannedRun, title: str = "") -> Self:
        """A planned run with its threshold, which is found now if nobody has found it before.

        Args:
            session: Model and data set.
            planned: One that is not refused.
            title: Of its group.

        Raises:
            Uncalibrated: Its threshold has to be found on another machine.
            ParbenchError: There is none, or something that belongs to its identity is missing.
        """
        from parbench.results.run_identity import run_id

        assert planned.reducer is not None
        reducer = session.thresholds.filled(planned.reducer)
        identity = session.identity(reducer)
        name = planned.cell.label or row_name(reducer.settings())
        return cls(planned.cell, reducer, identity, run_id(identity), f"{name}, {title}" if title else name)


@dataclass
class OpenGroup:
    """A group whose session is open."""

    group: Group
    session: Session
    jobs: list[Job] = field(default_factory=list)

    @cached_property
    def tracking(self) -> Tracking:
        """Where its runs are tracked besides their folders."""
        return tracking_of(self.session)


class Sweep:
    """Evaluates groups of cells, with one model in memory at a time.

    Args:
        groups: What to evaluate; those of one model should be neighbours.
        go_on: Whether the others go on when a cell fails; else its error ends everything.

    Attributes:
        elsewhere: Whether other machines compute.
        device: Where the models are if not where the configuration says.
    """

    elsewhere = False
    device: str | None = None

    def __init__(self, groups: Sequence[Group], *, go_on: bool) -> None:
        self.groups, self.go_on = groups, go_on
        self._open: list[OpenGroup] = []
        self._failed: list[tuple[str, str]] = []
        self._ended = 0

    def run(self) -> int:
        """Evaluate, and print a table a group; the exit code is 1 if a cell failed; see :meth:`compute`."""
        self.compute()
        self._show()
        return 1 if self._failed else 0

    @property
    def folders(self) -> list[Path]:
        """Folders of the runs that are finished, in the order of the cells."""
        return [job.folder for opened in self._open for job in opened.jobs if job.folder]

    @property
    def failed(self) -> Sequence[tuple[str, str]]:
        """Names of the cells that failed, and why."""
        return tuple(self._failed)

    def compute(self) -> None:
        """Evaluate all cells.

        Raises:
            FatalError: Nothing can go on, such as on a full disk; what was answered is kept.
            ParbenchError: Something is wrong with all cells, or, unless the others go on, with one.
        """
        from parbench.harness.progress import Progress

        with working("getting ready"):
            for group in self.groups:
                with self._if_several(group):
                    self._open.append(self._opened(group))
        with Progress() as progress:
            for opened in self._open:
                with self._if_several(opened.group):
                    self._announce(opened, progress)
            self._compute_all(progress)

    def _compute_all(self, progress: Progress) -> None:
        before = None
        for opened in self._open:
            if before is not None:
                opened.session.succeed(before)
            with self._if_several(opened.group):
                self._compute(opened, progress)
            before = opened.session

    @contextlib.contextmanager
    def _if_several(self, group: Group) -> Iterator[None]:
        """What is wrong with a group as a whole does not keep others from going on, if there are any."""
        try:
            yield
        except (FatalError, Uncalibrated):
            raise
        except ParbenchError as error:
            if not self.go_on or len(self.groups) == 1:
                raise
            self._fail(group.title, error)

    def _opened(self, group: Group) -> OpenGroup:
        from parbench.harness.planned import plan
        from parbench.harness.preflight import check_before_weights
        from parbench.harness.session import Session
        from parbench.harness.submission import refuse_split

        before = self._open[-1].session if self._open else None
        opened = OpenGroup(group, Session(group.config, beside=before, elsewhere=self.elsewhere, device=self.device))
        refuse_split(opened.session.dataset.settings)
        # An experiment's cells may need the model to find thresholds.
        known = () if group.config.variants else group.cells(opened.session)
        # What is wrong with the model is wrong with every run.
        planned = check_before_weights(opened.session, known)
        opened.session.dataset.fingerprint, opened.session.model_fingerprint  # noqa: B018
        planned = planned or plan(opened.session, group.cells(opened.session), opened.session.geometry)
        # What needs no model is said of all runs before the first threshold is looked for.
        for run in planned:
            if run.refusal:
                _log.warning(f"skipped: {run.refusal}")
        for run in planned:
            job = None if run.refusal else self._job(run, opened)
            if job and job.run not in [other.run for other in opened.jobs]:
                opened.jobs.append(job)
        self._note_missing(opened, planned)
        opened.session.thresholds.rest()
        if len(self.groups) > 1:
            # Finding thresholds needs the model.
            opened.session.release()
        return opened

    def _note_missing(self, opened: OpenGroup, planned: Sequence[PlannedRun]) -> None:
        """A method that is asked for and has no cell that can run is a failure."""
        run = {job.cell.method.name for job in opened.jobs}
        for name in opened.group.asked:
            if name not in run:
                why = [str(one.refusal) for one in planned if one.cell.method.name == name and one.refusal]
                self._failed.append((name, f"did not run at all{f': {why[0]}' if why else ''}"))

    def _job(self, run: PlannedRun, opened: OpenGroup) -> Job | None:
        """The run as a job, its threshold found; None where that cannot be, which is an error if it is required."""
        try:
            # What belongs to its identity has to be there too: said now rather than after the others' results.
            return Job.of(opened.session, run, opened.group.title)
        except Uncalibrated:
            raise
        except ParbenchError as error:
            if run.cell.required:
                raise
            _log.warning(f"skipped: {error}")
            return None

    def _announce(self, opened: OpenGroup, progress: Progress) -> None:
        """Make the folders of runs that are to come, so that others see them, and count their questions."""
        from parbench.harness.evaluate import is_finished, open_store

        for job in opened.jobs:
            if is_finished(opened.session, job.run):
                continue
            opened.session.dataset.check(opened.session.config.limit)
            done = 0
            try:
                with contextlib.closing(open_store(opened.session, job.identity, wait=False)) as store:
                    done = len(store.done)
                    if not opened.session.shard:
                        store.settle(questions=opened.session.questions)
            except FatalError:
                raise
            except ParbenchError:
                # Somebody computes it, or it is damaged: said when its turn comes.
                pass
            progress.expect(job.run, opened.session.questions, done)

    def _compute(self, opened: OpenGroup, progress: Progress) -> None:
        from parbench.harness.evaluate import is_finished

        if not all(is_finished(opened.session, job.run) for job in opened.jobs):
            opened.session.adapter  # noqa: B018 - if it cannot be loaded, every cell has failed
        held = [job for job in self._in_order(opened) if not self._evaluate(job, opened, progress, wait=False)]
        for job in held:
            self._evaluate(job, opened, progress, wait=True)

    def _in_order(self, opened: OpenGroup) -> list[Job]:
        # Features that are remembered with the blocks that a method looks into serve all who look into none.
        return sorted(opened.jobs, key=lambda job: not opened.session.looks_into(job.reducer))

    def _evaluate(self, job: Job, opened: OpenGroup, progress: Progress, *, wait: bool) -> bool:
        """Whether it came to an end; a run that another process computes may be left for later."""
        from parbench.harness.evaluate import evaluate

        try:
            found = evaluate(
                opened.session,
                job.reducer,
                identity=job.identity,
                wait=wait,
                progress=progress,
                tracking=opened.tracking,
            )
        except FatalError:
            raise
        except RunLockedError:
            return False
        except Exception as error:
            if not self.go_on:
                raise
            progress.settle(job.run)
            self._fail(job.name, error, Path(opened.session.config.results_dir) / job.run)
            return True
        progress.settle(job.run)
        job.folder = found.folder
        self._say_done(job, found.reused)
        return True

    def _say_done(self, job: Job, reused: bool) -> None:
        said = "finished before, nothing recomputed" if reused else "done"
        self._say(f"{job.name}: {said} ({job.folder})")

    def _say(self, text: str, error: Exception | None = None) -> None:
        self._ended += 1
        # What could not be opened has no cells to count.
        total = max(self._ended, sum(len(opened.jobs) for opened in self._open))
        _log.log(logging.ERROR if error else logging.INFO, f"[{self._ended}/{total}] {text}", exc_info=error)

    def _fail(self, name: str, error: Exception, folder: Path | None = None) -> None:
        said = str(error)
        if not isinstance(error, ParbenchError):
            # A defect of a method or of parbench: where it is stands in the run's folder.
            said = f"{type(error).__name__}: {error} (see {folder}/failed.json)"
        self._failed.append((name, said))
        self._say(f"{name}: failed: {said}", error)

    def _show(self) -> None:
        from parbench.sweep.task_groups import show_together
        from parbench.tables import show

        tables: dict[str, list[OpenGroup]] = {}
        for opened in self._open:
            tables.setdefault(_without_quantization(opened.group.config), []).append(opened)
        for together in tables.values():
            finished = [(job.folder, job.cell.label) for opened in together for job in opened.jobs if job.folder]
            if finished:
                if title := _shared_title([opened.group.title for opened in together]):
                    print(title)
                show(*map(list, zip(*finished, strict=True)))
        show_together(self._open)
        if self._failed:
            _log.error(f"parbench: {len(self._failed)} failed; the same command tries again:")
        for name, said in self._failed:
            _log.error(f"  {name}: {said}")


def _without_quantization(config: DictConfig) -> str:
    """What groups of one table have in common."""
    plain = config.copy()
    if "quantization" in plain.model:
        plain.model.quantization = None
    return OmegaConf.to_yaml(plain, resolve=True)


def _shared_title(titles: Sequence[str]) -> str:
    """The words that all titles have, in order."""
    return " ".join(word for word in titles[0].split() if all(word in other.split() for other in titles))

"""Evaluates the runs of a sweep one after the other in one process, and handles failures."""

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
from parbench.sweep.skips import skipped
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
    """Runs that share a model and a data set, and so a table.

    Attributes:
        config: The configuration of model, data set and everything else they share.
        cells: The methods and budgets; empty for an experiment.
        title: Distinguishes it from the command's other groups; empty if there is only one.
        asked: Names of the requested methods; each needs at least one run that is possible.
        variants: Gives an experiment's methods and budgets, once the session is open: finding thresholds may need the model.
    """

    config: DictConfig
    cells: Sequence[Cell] = ()
    title: str = ""
    asked: tuple[str, ...] = ()
    variants: Callable[[Session], Sequence[Cell]] | None = None

    def listed(self, session: Session) -> Sequence[Cell]:
        """The methods and budgets, those of an experiment too."""
        return self.variants(session) if self.variants else self.cells


@dataclass
class Job:
    """A run that is possible on the model.

    Attributes:
        cell: The requested method and budget.
        reducer: The method, ready for the model.
        identity: The run's identity.
        run: The run's id, the hash of the identity.
        name: Its name in messages.
        folder: The run's folder, once finished.
    """

    cell: Cell
    reducer: Reducer
    identity: Mapping[str, Any]
    run: str
    name: str
    folder: Path | None = None

    @classmethod
    def of(cls, session: Session, planned: PlannedRun, title: str = "") -> Self:
        """A planned run with its threshold filled in, searched for now if it is not stored anywhere.

        Args:
            session: Model and data set.
            planned: A run that is not refused.
            title: The title of its group.

        Raises:
            Uncalibrated: Its threshold has to be searched for on another machine.
            ParbenchError: No threshold reaches the budget, or something that belongs to its identity is missing.
        """
        from parbench.results.run_identity import run_id

        assert planned.reducer is not None
        reducer = session.thresholds.filled(planned.reducer)
        identity = session.identity(reducer)
        name = planned.cell.label or row_name(reducer.settings())
        return cls(planned.cell, reducer, identity, run_id(identity), f"{name}, {title}" if title else name)


@dataclass
class OpenGroup:
    """A group with its open session and its runs."""

    group: Group
    session: Session
    jobs: list[Job] = field(default_factory=list)

    @cached_property
    def tracking(self) -> Tracking:
        """The experiment tracking of its runs."""
        return tracking_of(self.session)


class Sweep:
    """Evaluates groups of runs, with one model in memory at a time.

    Args:
        groups: What to evaluate; groups of the same model should be adjacent.
        go_on: Whether to continue with the other runs when one fails; otherwise its error ends the sweep.
        begun: A session that may hold the model of the first group already, and is used up; None if there is none.

    Attributes:
        elsewhere: Whether other machines compute.
        device: Overrides the configured device of the models; None for no override.
    """

    elsewhere = False
    device: str | None = None

    def __init__(self, groups: Sequence[Group], *, go_on: bool, begun: Session | None = None) -> None:
        self.groups, self.go_on, self._begun = groups, go_on, begun
        self._open: list[OpenGroup] = []
        self._failed: list[tuple[str, str]] = []
        self._ended = 0

    def run(self) -> int:
        """Evaluate (see :meth:`compute`), and print a table per group; the exit code is 1 if a run failed."""
        self.compute()
        self._show()
        return 1 if self._failed else 0

    @property
    def folders(self) -> list[Path]:
        """Folders of the finished runs, in the order of the sweep."""
        return [job.folder for opened in self._open for job in opened.jobs if job.folder]

    @property
    def failed(self) -> Sequence[tuple[str, str]]:
        """Names of the runs that failed, and why."""
        return tuple(self._failed)

    def compute(self) -> None:
        """Evaluate all runs.

        Raises:
            FatalError: No run can continue, for example because the disk is full; answers so far are kept.
            ParbenchError: Something is wrong with all runs, or with one unless ``go_on`` is set.
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
        # Searching for thresholds may have loaded the model of the last group.
        before = self._open[-1].session if self._open else None
        for opened in self._open:
            if before is not None and before is not opened.session:
                opened.session.succeed(before)
            with self._if_several(opened.group):
                self._compute(opened, progress)
            before = opened.session

    @contextlib.contextmanager
    def _if_several(self, group: Group) -> Iterator[None]:
        """If there are several groups, record the failure of one and continue with the others."""
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
        from parbench.harness.videos_in_reach import check_videos

        before = self._open[-1].session if self._open else self._begun
        opened = OpenGroup(group, Session(group.config, beside=before, elsewhere=self.elsewhere, device=self.device))
        if before is not None:
            opened.session.succeed(before)
        refuse_split(opened.session.dataset.settings)
        # An error in the model affects every run.
        planned = check_before_weights(opened.session, group.cells)
        opened.session.dataset.fingerprint, opened.session.model_fingerprint  # noqa: B018
        planned = planned or plan(opened.session, group.listed(opened.session), opened.session.geometry)
        planned = check_videos(opened.session, planned)
        # Report all errors that need no model before the first search for a threshold.
        for sentence in skipped(planned):
            _log.warning(sentence)
        for run in planned:
            job = None if run.refusal else self._job(run, opened)
            if job and job.run not in [other.run for other in opened.jobs]:
                opened.jobs.append(job)
        self._note_missing(opened, planned)
        opened.session.thresholds.rest()
        return opened

    def _note_missing(self, opened: OpenGroup, planned: Sequence[PlannedRun]) -> None:
        """Record a failure for each requested method that has no possible run."""
        run = {job.cell.method.name for job in opened.jobs}
        for name in opened.group.asked:
            if name not in run:
                why = [str(one.refusal) for one in planned if one.cell.method.name == name and one.refusal]
                self._failed.append((name, f"did not run at all{f': {why[0]}' if why else ''}"))

    def _job(self, run: PlannedRun, opened: OpenGroup) -> Job | None:
        """The run as a job with its threshold; None if no threshold can be found, which is an error for a required run."""
        try:
            # Missing parts of its identity are reported now rather than after the other results.
            return Job.of(opened.session, run, opened.group.title)
        except Uncalibrated:
            raise
        except ParbenchError as error:
            if run.cell.required:
                raise
            _log.warning(f"skipped: {error}")
            return None

    def _announce(self, opened: OpenGroup, progress: Progress) -> None:
        """Create the folders of the coming runs, so that other processes see them, and count their questions."""
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
                # Another process computes it, or it is damaged: reported when its turn comes.
                pass
            progress.expect(job.run, opened.session.questions, done)

    def _compute(self, opened: OpenGroup, progress: Progress) -> None:
        from parbench.harness.evaluate import is_finished

        if not all(is_finished(opened.session, job.run) for job in opened.jobs):
            opened.session.adapter  # noqa: B018 - if it cannot be loaded, every cell has failed
        jobs = self._in_order(opened)
        if jobs and jobs[0] is not opened.jobs[0]:
            _log.info(f"begins with {jobs[0].name}: the image features that are kept for it serve the other methods too")
        held = [job for job in jobs if not self._evaluate(job, opened, progress, wait=False)]
        for job in held:
            self._evaluate(job, opened, progress, wait=True)

    def _in_order(self, opened: OpenGroup) -> list[Job]:
        # Features cached with the blocks that one method needs also serve methods that need none.
        return sorted(opened.jobs, key=lambda job: not opened.session.looks_into(job.reducer))

    def _evaluate(self, job: Job, opened: OpenGroup, progress: Progress, *, wait: bool) -> bool:
        """Evaluate a run. False if another process computes it and ``wait`` is off, so that it is left for later."""
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
        # A group that could not be opened has no runs to count.
        total = max(self._ended, sum(len(opened.jobs) for opened in self._open))
        _log.log(logging.ERROR if error else logging.INFO, f"[{self._ended}/{total}] {text}", exc_info=error)

    def _fail(self, name: str, error: Exception, folder: Path | None = None) -> None:
        said = str(error)
        if not isinstance(error, ParbenchError):
            # A bug in a method or in parbench: the run's folder has the traceback.
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
    """A key that is equal for groups of one table: everything but the quantization."""
    plain = config.copy()
    if "quantization" in plain.model:
        plain.model.quantization = None
    return OmegaConf.to_yaml(plain, resolve=True)


def _shared_title(titles: Sequence[str]) -> str:
    """The words common to all titles, in order."""
    return " ".join(word for word in titles[0].split() if all(word in other.split() for other in titles))

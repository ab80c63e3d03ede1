"""``tracking=wandb``: one W&B run per parbench run, under the same id, even if another process resumes it."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from omegaconf import OmegaConf

from parbench.config.tracking import WandbSettings
from parbench.errors import ParbenchError
from parbench.files import write_whole
from parbench.harness.tracker import Tracker, Tracking
from parbench.results.record import RunMetrics
from parbench.tracking import record
from parbench.tracking.bounded import Lost, bounded, reason
from parbench.tracking.history import History, Point
from parbench.tracking.wandb_service import abandon, begin, choose_mode, environment

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.results.store import RunStore

_log = logging.getLogger(__name__)

# The file in the run's folder that describes its W&B run.
MARKER = "tracking.json"


class WandbTracking(Tracking):
    """The state that the runs of a process share: whether W&B is used online, offline, or not any more.

    After a failure online, tracking continues offline. After a failure offline, tracking ends for this process, but the
    evaluation goes on.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.settings = WandbSettings.of(OmegaConf.to_container(session.config.tracking, resolve=True))  # type: ignore[arg-type]
        self.mode: str | None = None
        self._chosen = self._said = False

    def run(self, store: RunStore) -> Tracker:
        """The tracker of one run."""
        return WandbTracker(self, store)

    @property
    def usable(self) -> bool:
        """Whether tracking still works."""
        if not self._chosen:
            self._chosen = True
            try:
                self.mode, why = bounded(lambda: choose_mode(self.settings), self.settings.patience)
            except Lost as lost:
                self.fail(str(lost))
            else:
                if self.mode == "offline":
                    self._say_offline(why)
        return self.mode is not None

    def begun(self, address: str) -> None:
        """Called when a W&B run is open; the address of the first one online is logged."""
        if self.mode == "online" and not self._said:
            _log.info(f"tracking: runs are tracked in {address}")
        self._said = True

    def fail(self, why: str) -> None:
        """Handle a failure of W&B: switch from online to offline, or from offline to no tracking."""
        abandon()
        if self.mode == "online":
            self.mode = "offline"
            self._say_offline(f"W&B failed online ({why})")
            return
        self.mode = None
        _log.warning(f"tracking: W&B failed ({why}): from here on runs are not tracked; the evaluation goes on and loses nothing")

    def _say_offline(self, why: str) -> None:
        folder = self.settings.folder
        _log.warning(f"tracking: {why}: runs are tracked offline in {folder}; send them with wandb sync {folder}/offline-run-*")


class WandbTracker(Tracker):
    """Logs one run to W&B.

    The history is computed from the run's samples. So a W&B run that is opened for the first time, resumed after a kill, or
    reopened offline first gets all points that it lacks.
    """

    def __init__(self, tracking: WandbTracking, store: RunStore) -> None:
        self.tracking, self.settings, self.store = tracking, tracking.settings, store
        self.history = History(self.settings.every)
        self.live: Any = None
        self._until_closed = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._until_closed.enter_context(environment(self.settings))
        return self

    def update(self) -> None:
        """Log the new points of the history."""
        if points := self.history.take(self.store.done):
            self._do(lambda live: _tell(live, points))

    def finish(self, metrics: RunMetrics, *, reused: bool = False) -> None:
        """Log the remaining points and the results, and close the W&B run."""
        if (reused and self._told()) or not self.tracking.usable:
            return
        try:
            points = [*self.history.take(record.lines_of(self.store)), *self.history.end()]
        except ParbenchError as error:
            _log.warning(f"tracking: run {self.store.id} is not tracked: its samples cannot be read ({reason(error)})")
            return
        with contextlib.ExitStack() as until_told:
            shown = self._shown(until_told, metrics)
            if self._do(lambda live: _end(live, points, shown, metrics)):
                self._mark(finished=True)
        self.live = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the W&B run, if it is still open, as stopped."""
        with self._until_closed:
            if self.live is not None:
                self._do(lambda live: live.finish(exit_code=1))
                self.live = None

    def _do(self, work: Callable[[Any], object]) -> bool:
        """Call a function with the open W&B run; whether it succeeded."""
        while self.tracking.usable:
            try:
                if self.live is None:
                    self._open()
                bounded(lambda: work(self.live), self.settings.patience)
                return True
            # No error of W&B may stop an evaluation.
            except Exception as error:
                self.live = None
                self.tracking.fail(reason(error))
        return False

    def _open(self) -> None:
        """Open the W&B run, and log all earlier points."""
        config = record.configuration(self.store)
        mode = self.tracking.mode or "offline"
        name = record.title(config["identity"])
        self.live = bounded(lambda: begin(self.settings, self.store.id, name, config, mode), self.settings.patience)
        self.tracking.begun(str(self.live.project_url))
        self._mark(finished=False)
        bounded(lambda: _tell(self.live, self.history.points), self.settings.patience)

    def _shown(self, until_told: contextlib.ExitStack, metrics: RunMetrics) -> record.Shown:
        try:
            folder = Path(until_told.enter_context(tempfile.TemporaryDirectory()))
            return record.shown(folder, self.store, self.tracking.session, metrics, self.settings)
        except Exception as error:
            _log.warning(f"tracking: samples and pictures of run {self.store.id} are left out ({reason(error)})")
            return record.Shown([], {}, {})

    def _mark(self, *, finished: bool) -> None:
        """Record in the run's folder where it is tracked, and whether tracking is complete."""
        path = self.store.folder / MARKER
        where = str(self.live.url) if self.tracking.mode == "online" else str(Path(self.live.settings.sync_dir).resolve())
        before = _read(path).get("where", [])
        noted = {
            "tracker": "wandb",
            "id": self.store.id,
            "project": self.settings.project,
            "entity": self.settings.entity,
            "finished": finished,
            "where": [*(place for place in before if place != where), where],
        }
        # Without this file a finished run is logged again.
        with contextlib.suppress(OSError):
            write_whole(path, json.dumps(noted, indent=2) + "\n")

    def _told(self) -> bool:
        """Whether this run has been logged completely to this project already."""
        noted = _read(self.store.folder / MARKER)
        wanted = {"project": self.settings.project, "entity": self.settings.entity, "finished": True}
        return all(noted.get(key) == value for key, value in wanted.items())


def _tell(live: Any, points: list[Point]) -> None:
    """Log the points that the W&B run lacks; a run resumed online knows its last step."""
    for step, values in points:
        if step >= live.step:
            live.log(values, step=step)


def _end(live: Any, points: list[Point], shown: record.Shown, metrics: RunMetrics) -> None:
    import wandb

    _tell(live, points)
    drawn = {name: wandb.Image(str(path), caption=caption) for name, (path, caption) in shown.pictures.items()}
    media: dict[str, Any] = {f"figures/{name}": wandb.Image(str(path)) for name, path in shown.figures.items()}
    if drawn:
        media["kept_tokens"] = list(drawn.values())
    if shown.rows:
        rows = [[*row, drawn.get(row[0])] for row in shown.rows]
        media["samples"] = wandb.Table(columns=[*record.COLUMNS, "kept"], data=rows)
    if media:
        # At the last point of the history, unless W&B is further already because the run is logged a second time.
        live.log(media, step=max(metrics.n, live.step))
    live.summary.update(record.summary(vars(metrics)))
    live.finish()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""Checks an evaluation before weights are downloaded or loaded: whether it is possible, and what it would download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.errors import ParbenchError
from parbench.harness.planned import Cell, PlannedRun, plan
from parbench.models import hub
from parbench.models.fingerprints import PICKLE
from parbench.models.loading import check_clip_config, locate_clip
from parbench.models.written_sizes import known_geometry

if TYPE_CHECKING:
    from parbench.harness.session import Session


@dataclass(frozen=True)
class Source:
    """The source of a checkpoint or data set that an evaluation reads.

    Attributes:
        what: ``model``, ``CLIP`` or ``data``.
        name: A folder or ``org/name``.
        revision: The revision on the hub.
        here: Whether all of it is on this machine.
        files: Its files on the hub; None if the hub was not queried or did not answer.
        note: A remark for the user.
    """

    what: str
    name: str
    revision: str | None = None
    here: bool = True
    files: tuple[hub.HubFile, ...] | None = None
    note: str = ""

    @property
    def missing(self) -> int | None:
        """Bytes to download; None if that is not known."""
        if self.here:
            return 0
        return None if self.files is None else sum(file.size for file in self.files if not file.cached)


def check_before_weights(session: Session, cells: Sequence[Cell]) -> list[PlannedRun]:
    """The requested runs, with impossible ones refused before weights are downloaded.

    Raises:
        ParbenchError: The model, a required method, its budget, the CLIP, the data's split or the free disk space is unsuitable.
    """
    # Reported before anything is downloaded, and before the processor is loaded, which takes seconds.
    plan(session, cells, known_geometry(session.model_settings))
    session.check_prompts()
    planned = plan(session, cells, session.geometry)
    if any(run.cell.required and run.reducer and run.reducer.needs_clip for run in planned):
        settings = session.model_settings
        folder = locate_clip(str(settings["clip"]), settings.get("clip_revision"), weights=False)
        check_clip_config(folder, session.vision_width)
    if not hub.offline():
        _check_fetching(session, sources(session, planned))
    return planned


def _check_fetching(session: Session, read: Sequence[Source]) -> None:
    """Check the data's split and the free disk space before anything large is downloaded."""
    if all(source.here for source in read):
        return
    _check_split(session)
    missing = sum(source.missing or 0 for source in read)
    hub.check_space(" and ".join(source.name for source in read if not source.here), missing)


def sources(session: Session, planned: Sequence[PlannedRun]) -> list[Source]:
    """The checkpoints that the runs of a session read."""
    settings = session.model_settings
    needs_clip = any(run.reducer and run.reducer.needs_clip for run in planned)
    found = [_source("model", str(settings["path"]), settings.get("revision"), hub.SAFETENSORS)]
    if needs_clip and settings["clip"]:
        forms = (*hub.SAFETENSORS, PICKLE)
        found.append(_source("CLIP", str(settings["clip"]), settings.get("clip_revision"), forms))
    return found


def _source(what: str, path: str, revision: str | None, forms: Sequence[str]) -> Source:
    if Path(path).expanduser().is_dir() or not hub.is_hub_name(path):
        return Source(what, path)
    folder = hub.cached_snapshot(path, revision)
    lacking = hub.lacks(folder, forms) if folder else None
    if folder and lacking is None:
        return Source(what, path, revision, note=f"in {folder}")
    files = hub.listing(path, revision, forms)
    return Source(what, path, revision, here=False, files=None if files is None else tuple(files), note=lacking or "")


def fetchable_data(session: Session) -> Source:
    """The source of a session's rows, with the hub's list of files if the hub can be reached."""
    settings = session.dataset.settings
    if session.dataset.generated or settings.get("path"):
        return Source("data", str(settings.get("path") or session.dataset.name), note=f"split {settings['split']}")
    name, revision = str(settings["hub"]), settings.get("revision")
    wanted = [part for part in (settings["config"], settings.get("images_config")) if part]
    files = hub.data_files(name, revision, settings["split"], wanted)
    here = bool(files) and all(file.cached for file in files or ())
    if files is None and hub.offline():
        try:
            here = len(session.dataset.rows) > 0
        except ParbenchError:
            here = False
    return Source("data", name, revision, here, None if not files else tuple(files), note=f"split {settings['split']}")


def _check_split(session: Session) -> None:
    """Check that the hub's data set has the split; offline this is left until it is read."""
    settings = session.dataset.settings
    if session.dataset.generated or settings.get("path"):
        return
    import datasets

    try:
        known = datasets.get_dataset_split_names(settings["hub"], settings["config"], revision=settings.get("revision"))
    except Exception:  # Any network error; also data that exist only on this machine.
        return
    if settings["split"] not in known:
        raise ParbenchError(f"dataset.split={settings['split']} is not in {settings['hub']}: it has {', '.join(known)}")

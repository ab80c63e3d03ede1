"""What can be known of an evaluation before weights are downloaded or loaded: whether it is possible, and what it would fetch."""

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

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.models.geometry import Geometry


@dataclass(frozen=True)
class Source:
    """Where something that an evaluation reads comes from.

    Attributes:
        what: ``model``, ``CLIP`` or ``data``.
        name: A folder or ``org/name``.
        revision: Of the hub.
        here: Whether all of it is on this machine.
        files: What the hub has of it; None where it was not asked or did not answer.
        note: What else there is to say.
    """

    what: str
    name: str
    revision: str | None = None
    here: bool = True
    files: tuple[hub.HubFile, ...] | None = None
    note: str = ""

    @property
    def missing(self) -> int | None:
        """Bytes to download; None where that is not known."""
        if self.here:
            return 0
        return None if self.files is None else sum(file.size for file in self.files if not file.cached)


def check_before_weights(session: Session, cells: Sequence[Cell]) -> list[PlannedRun]:
    """The runs that are asked for, what is impossible refused before weights are downloaded.

    Raises:
        ParbenchError: The model, a required method, its budget, the CLIP, the data's split or the disk does not serve.
    """
    known = configured_geometry(session)
    if known is not None and not has_small_files(session):
        # Said before anything at all is downloaded.
        plan(session, cells, known)
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
    """Before anything large is downloaded: the data's split and the disk."""
    if all(source.here for source in read):
        return
    _check_split(session)
    missing = sum(source.missing or 0 for source in read)
    hub.check_space(" and ".join(source.name for source in read if not source.here), missing)


def configured_geometry(session: Session) -> Geometry | None:
    """The model's sizes as ``conf/model`` gives them; None where it leaves them to the checkpoint."""
    from parbench.models.geometry import config_of, geometry_of

    return geometry_of(config_of(session.model_settings)) if session.model_settings.get("geometry") else None


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
    """Where a session's rows come from, by the hub's list of files where it can be asked."""
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


def has_small_files(session: Session) -> bool:
    """Whether a session's model is known without asking the hub."""
    path, revision = str(session.model_settings["path"]), session.model_settings.get("revision")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if not hub.is_hub_name(path):
            return True  # What is wrong with it is said when it is opened.
        cached = hub.cached_snapshot(path, revision)
        if cached is None:
            return False
        folder = cached
    return (folder / "config.json").is_file()


def _check_split(session: Session) -> None:
    """Whether the hub's data set has the split; where that cannot be asked, it turns out when it is read."""
    settings = session.dataset.settings
    if session.dataset.generated or settings.get("path"):
        return
    import datasets

    try:
        known = datasets.get_dataset_split_names(settings["hub"], settings["config"], revision=settings.get("revision"))
    except Exception:  # Whatever a network raises; also data that are on this machine alone.
        return
    if settings["split"] not in known:
        raise ParbenchError(f"dataset.split={settings['split']} is not in {settings['hub']}: it has {', '.join(known)}")

"""Beginning a W&B run so that it neither says, reads nor sends what nobody asked for; and getting rid of a W&B that hangs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from parbench.config.tracking import WandbSettings
from parbench.tracking.bounded import Lost, bounded

# Seconds to wait for an answer to "may I begin?"; a machine without network should not wait longer, once.
_BEGIN = 30.0
_TEARDOWN = 5.0
_SERVICE = "wandb-core"
_QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "show_info": False,
    "show_warnings": False,
    "show_errors": False,
}
# Neither the command line, which may hold a key, nor the machine, its packages or the repository.
_UNASKED = {
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "program": "parbench",
    "host": "",
}
_before: set[int] | None = None


@contextlib.contextmanager
def environment(settings: WandbSettings) -> Iterator[None]:
    """While open, W&B has what it takes from the environment alone; afterwards the host's variables are as before.

    What a person has set stays as it is.
    """
    wanted = {
        # No reports of crashes to anybody.
        "WANDB_ERROR_REPORTING": "false",
        # What a table of an offline run holds until it is sent; by default in the home folder.
        "WANDB_DATA_DIR": str(settings.folder / "data"),
    }
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def choose_mode(settings: WandbSettings) -> tuple[str, str]:
    """``online`` or ``offline``, and why it is offline."""
    wanted = settings.mode
    if wanted == "auto":
        wanted = {"online": "online", "offline": "offline", "dryrun": "offline"}.get(os.environ.get("WANDB_MODE", ""), "auto")
        if wanted == "offline":
            return wanted, "WANDB_MODE asks for it"
    if wanted == "offline":
        return wanted, "as tracking.mode=offline asks"
    return ("online", "") if _has_key() else ("offline", "there is no W&B key (WANDB_API_KEY or wandb login)")


def _has_key() -> bool:
    return bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or _wandb().api.api_key)


def _wandb() -> Any:
    """The library, told to be quiet before it can say anything."""
    import wandb
    from wandb.analytics import get_sentry

    # Whether it reports crashes is settled for this process now: it may have one when `environment` is closed.
    get_sentry()
    _remember_services()
    wandb.setup(wandb.Settings(**_QUIET))
    return wandb


def begin(settings: WandbSettings, run_id: str, name: str, config: Mapping[str, Any], mode: str) -> Any:
    """A W&B run with that id, begun or continued.

    Args:
        settings: What ``tracking`` says.
        run_id: The run's; W&B's too.
        name: For people.
        config: What W&B shows as the run's configuration; no secret is in it.
        mode: online or offline.

    Raises:
        Lost: The folder cannot be written.
    """
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Lost(f"{folder} cannot be made: {error.strerror}") from error
    # wandb would write to the folder for temporary files instead, where nobody looks.
    if not os.access(folder, os.W_OK):
        raise Lost(f"{folder} cannot be written")
    _wait_for_a_name(folder, run_id)
    live = _wandb().init(
        id=run_id,
        # Offline nothing can be looked up: the folders of a run that was begun several times go to one run when they are sent.
        resume="allow" if mode == "online" else None,
        mode=mode,
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        tags=list(settings.tags),
        name=name,
        job_type="eval",
        dir=str(folder.parent),
        config=dict(config),
        reinit="create_new",
        settings={
            **_QUIET,
            **_UNASKED,
            "allow_val_change": True,
            "init_timeout": min(_BEGIN, settings.patience),
        },
    )
    live.define_metric("questions", hidden=True)
    live.define_metric("so_far/*", step_metric="questions")
    return live


def _wait_for_a_name(folder: Path, run_id: str) -> None:
    """Folders are named by the second; a run that is begun again within one would write over its own beginning."""
    while list(folder.glob(f"*run-{datetime.now():%Y%m%d_%H%M%S}-{run_id}")):
        time.sleep(0.05)


def _remember_services() -> None:
    """Note the services that others of this process started before us."""
    global _before
    if _before is None:
        _before = {process.pid for process in _services()}


def _services() -> list[Any]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return [child for child in psutil.Process().children() if child.name() == _SERVICE]
    return []


def abandon() -> None:
    """End the wandb service that we started: left alone it would hold up the end of this process until it had sent everything."""
    import psutil

    _hush_threads()
    for process in _services():
        if process.pid not in (_before or set()):
            with contextlib.suppress(psutil.Error):
                process.kill()
    with contextlib.suppress(Lost):
        bounded(_teardown, _TEARDOWN)


def _teardown() -> None:
    import wandb

    wandb.teardown()


def _hush_threads() -> None:
    """What threads of wandb say when they find their service gone is no news to anybody.

    Each of them is told by itself: ``threading.excepthook`` belongs to the whole process.
    """
    for thread in threading.enumerate():
        if _of_wandb(type(thread)) or _of_wandb(getattr(thread, "_target", None)):
            thread._invoke_excepthook = lambda *_: None  # type: ignore[attr-defined]


def _of_wandb(code: Any) -> bool:
    return (getattr(code, "__module__", None) or "").partition(".")[0] == "wandb"

"""Starts W&B runs without unrequested output, reads or uploads, and terminates a W&B service that hangs."""

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

# Seconds to wait for W&B's server at the start; a machine without network waits this long once.
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
# Do not upload the command line, which may contain a key, nor the machine, its packages or the repository.
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
    """Set W&B's environment variables, and restore them on exit.

    Variables that the user has set are left unchanged.
    """
    wanted = {
        # No crash reports.
        "WANDB_ERROR_REPORTING": "false",
        # Tables of an offline run until they are uploaded; by default in the home folder.
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
    """``online`` or ``offline``, and the reason for offline."""
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
    """The wandb module, silenced on import."""
    import wandb
    from wandb.analytics import get_sentry

    # Decide now, under `environment`, whether wandb reports crashes; the decision holds for the whole process.
    get_sentry()
    _remember_services()
    wandb.setup(wandb.Settings(**_QUIET))
    return wandb


def begin(settings: WandbSettings, run_id: str, name: str, config: Mapping[str, Any], mode: str) -> Any:
    """Start or resume the W&B run with an id.

    Args:
        settings: The settings of ``tracking``.
        run_id: The run's id, which is also W&B's.
        name: The display name.
        config: The configuration to show in W&B, without secrets.
        mode: ``online`` or ``offline``.

    Raises:
        Lost: The folder cannot be written.
    """
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Lost(f"{folder} cannot be made: {error.strerror}") from error
    # Otherwise wandb would silently write to the system's temporary folder.
    if not os.access(folder, os.W_OK):
        raise Lost(f"{folder} cannot be written")
    _wait_for_a_name(folder, run_id)
    live = _wandb().init(
        id=run_id,
        # Offline nothing can be looked up: the folders of a run that was started several times are joined when they are uploaded.
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
    """Wait until the folder's name, which has a resolution of one second, is free, so that nothing is overwritten."""
    while list(folder.glob(f"*run-{datetime.now():%Y%m%d_%H%M%S}-{run_id}")):
        time.sleep(0.05)


def _remember_services() -> None:
    """Record the wandb services that this process started before parbench did."""
    global _before
    if _before is None:
        _before = {process.pid for process in _services()}


def _services() -> list[Any]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return [child for child in psutil.Process().children() if child.name() == _SERVICE]
    return []


def abandon() -> None:
    """Terminate the wandb service that parbench started, which would otherwise delay the exit until everything is uploaded."""
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
    """Silence the exceptions of wandb's threads when their service is gone.

    This is done per thread, because ``threading.excepthook`` is global to the process.
    """
    for thread in threading.enumerate():
        if _of_wandb(type(thread)) or _of_wandb(getattr(thread, "_target", None)):
            thread._invoke_excepthook = lambda *_: None  # type: ignore[attr-defined]


def _of_wandb(code: Any) -> bool:
    return (getattr(code, "__module__", None) or "").partition(".")[0] == "wandb"

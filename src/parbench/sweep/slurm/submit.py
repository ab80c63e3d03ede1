"""Submits sweeps to Slurm through submitit, with the settings of Hydra's submitit launcher."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.sweep.slurm.cluster import partitions
from parbench.sweep.slurm.job import SweepJob

_log = logging.getLogger(__name__)

# The settings in conf/launcher/slurm.yaml that are not Hydra's.
OURS = ("name", "poll_s")
# Needed before Hydra's class has validated all of them.
_NEEDED = ("poll_s", "timeout_min", "max_num_timeout", "setup", "additional_parameters")
# Since Slurm 22.05 srun reads the number of CPUs from its own variable. As many threads as CPUs, unless set.
_SETUP = (
    '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || '
    'export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"'
)


@dataclass(frozen=True)
class Submitted:
    """A submitted job.

    Attributes:
        job: Slurm's job id.
        log: The file with its stderr.
    """

    job: str
    log: Path


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the settings of a cluster.

    Raises:
        ParbenchError: A setting is missing, or one of parbench's has the wrong type. Hydra's class validates the others when
            jobs are submitted.
    """
    if missing := [key for key in _NEEDED if key not in settings]:
        raise ParbenchError(f"the launcher has no {', '.join(missing)}: begin its file with 'defaults: [slurm, _self_]'")
    for key, kind, example in (
        ("setup", list, '["module load cuda"]'),
        ("additional_parameters", dict, "{reservation: lab}"),
    ):
        if settings[key] is not None and not isinstance(settings[key], kind):
            raise ParbenchError(
                f"launcher.{key}={settings[key]} is of the wrong kind: write 'launcher.{key}={example}', with its quotes"
            )
    poll = settings["poll_s"]
    if isinstance(poll, bool) or not isinstance(poll, int | float) or poll <= 0:
        raise ParbenchError(f"launcher.poll_s={poll} is not a number of seconds above 0")


def submit(jobs: Sequence[SweepJob], settings: Mapping[str, Any], folder: Path) -> list[Submitted]:
    """Submit an array of jobs.

    Args:
        jobs: The jobs to run.
        settings: ``conf/launcher/slurm.yaml``.
        folder: Folder for logs and pickles, visible to the nodes.

    Raises:
        ParbenchError: A setting is invalid, or Slurm refuses the jobs.
    """
    executor = _executor(settings, folder)
    # submitit logs sbatch's message and then raises it too.
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), executor.batch():
            handed = [executor.submit(job) for job in jobs]
    except OSError as error:
        raise unwritable(folder, error) from error
    except RuntimeError as error:
        raise _refused(str(error), settings) from error
    if words := said.getvalue().strip():
        _log.info(words)
    return [Submitted(job.job_id, job.paths.stderr) for job in handed]


def _executor(settings: Mapping[str, Any], folder: Path) -> Any:
    # Hydra's class launches and waits in one call. It stops waiting at the first failed job, and takes a lost node for a failed
    # job. So its settings and executor are used, but not its waiting.
    try:
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
        from submitit import AutoExecutor
    except ImportError as error:
        raise ParbenchError(
            "launcher=slurm needs the extra slurm: make setup, or pip install -c requirements.lock hydra-submitit-launcher submitit"
        ) from error
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = {key: value for key, value in settings.items() if key not in OURS}
    given |= {"name": "parbench", "submitit_folder": str(folder / "%j"), "setup": [_SETUP, *(settings["setup"] or ())]}
    try:
        checked = OmegaConf.merge(OmegaConf.structured(SlurmQueueConf), given)
    except OmegaConfBaseException as error:
        raise ParbenchError(f"launcher.{error.full_key}: {str(error).splitlines()[0]}") from error
    fields: dict[str, Any] = OmegaConf.to_container(checked)  # type: ignore[assignment]
    common = set(OmegaConf.structured(BaseQueueConf))
    for key in ("_target_", "submitit_folder", "max_num_timeout"):
        del fields[key]
    executor = AutoExecutor(folder / "%j", cluster="slurm", slurm_max_num_timeout=settings["max_num_timeout"])
    executor.update_parameters(**{key if key in common else f"slurm_{key}": value for key, value in fields.items()})
    return executor


def _refused(said: str, settings: Mapping[str, Any]) -> ParbenchError:
    lines = [line.partition("error: ")[2] or line for line in said.splitlines() if line.strip()]
    if any("invalid partition" in line.lower() for line in lines):
        known = ", ".join(partitions())
        return ParbenchError(f"Slurm knows no partition {settings['partition']}: launcher.partition is one of {known}")
    return ParbenchError(f"Slurm refuses the jobs: {'; '.join(lines)}")


def unwritable(folder: Path, error: OSError) -> ParbenchError:
    """The error for a job folder that cannot be written."""
    return ParbenchError(
        f"the folder {folder} of jobs cannot be written ({error.strerror}): make room, make it writable, or choose another with "
        "results_dir=/path/to/folder, one that the nodes see too"
    )

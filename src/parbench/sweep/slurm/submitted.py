"""Records the jobs submitted for a results folder, so that the same command finds them again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from parbench.errors import ParbenchError
from parbench.locks import FileLock
from parbench.sweep.slurm.job import SweepJob
from parbench.sweep.slurm.submit import Submitted, unwritable


class Ledger:
    """The file ``jobs.jsonl`` in the job folder.

    Args:
        folder: The folder of the jobs' logs and pickles; it is created.

    Raises:
        ParbenchError: The folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "jobs.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise unwritable(folder, error) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the file, so that two commands do not submit the same jobs.

        Raises:
            ParbenchError: The file system has no locks.
        """
        try:
            lock = FileLock(self._path)
        except OSError as error:
            raise ParbenchError(
                f"{self._path} cannot be locked ({error.strerror}): results_dir has to be on a file system with locks "
                "(Lustre: mounted with -o flock)"
            ) from error
        with lock:
            yield

    def last(self) -> dict[SweepJob, Submitted]:
        """The last job submitted for each command line.

        Raises:
            ParbenchError: The file is damaged.
        """
        # No command waits for the job of an incomplete line.
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        try:
            entries = [json.loads(line) for line in lines]
            return {SweepJob(tuple(entry["words"])): Submitted(entry["job"], Path(entry["log"])) for entry in entries}
        except (ValueError, TypeError, KeyError) as error:
            raise ParbenchError(
                f"{self._path} is damaged: delete it when no job of this folder is in the queue (squeue --me); no result is lost"
            ) from error

    def add(self, jobs: Sequence[SweepJob], handed: Sequence[Submitted]) -> None:
        """Append submitted jobs.

        Raises:
            ParbenchError: The file cannot be written.
        """
        entries = [
            {"job": submitted.job, "words": job.words, "log": str(submitted.log)}
            for job, submitted in zip(jobs, handed, strict=True)
        ]
        try:
            with self._path.open("r+b") as file:
                # After the last complete line.
                file.seek(file.read().rfind(b"\n") + 1)
                file.truncate()
                file.write("".join(json.dumps(entry) + "\n" for entry in entries).encode())
        except OSError as error:
            raise unwritable(self.folder, error) from error

"""The worker process on one device: computes the runs that it is given, one after the other.

Tasks arrive as lines of JSON on stdin, messages are sent as lines of JSON on stdout:

* task: ``config`` (YAML of the whole configuration), ``method`` (YAML), ``budget``, ``wait``
* ``loaded``: the model is loaded
* ``expect``, ``step``: calls of the methods of ``Progress``
* ``done``: ``folder``, ``reused``
* ``held``: another process computes the run
* ``refused``: the model cannot be loaded here; ``said`` is the reason
* ``failed``: the run failed; ``said`` is the reason, and ``defect`` says whether it is a bug
* ``device``: the device failed, for the reason ``said``; the process cannot compute anything more
* ``fatal``: the whole sweep has to stop, for the reason ``said``

The process exits as soon as stdin is closed, also when its parent process has died.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import IO, Any

from omegaconf import DictConfig, OmegaConf

from parbench.engine.allocator import own_process
from parbench.errors import DeviceFailed, FatalError, ParbenchError, RunLockedError
from parbench.harness.progress import Progress
from parbench.harness.session import Session
from parbench.harness.tracker import Tracking
from parbench.log import shown
from parbench.tracking import tracking_of


class _Channel:
    """Sends messages to the parent process."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def say(self, kind: str, **content: Any) -> None:
        """Send a message of a kind with its fields."""
        self._file.write(json.dumps({"kind": kind, **content}) + "\n")
        self._file.flush()


class _Told(Progress):
    """Progress that the parent process displays."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel

    def expect(self, run: str, questions: int, done: int, title: str = "") -> None:
        """See ``Progress``."""
        self._channel.say("expect", run=run, questions=questions, done=done, title=title)

    def step(self, run: str, questions: int) -> None:
        """See ``Progress``."""
        self._channel.say("step", run=run, questions=questions)


class Computing:
    """Computes runs on a device.

    Args:
        device: Torch name.
        channel: Sends the messages.
    """

    def __init__(self, device: str, channel: _Channel) -> None:
        self.device, self.channel = device, channel
        self._progress = _Told(channel)
        self._session: tuple[str, Session] | None = None
        self._tracking = Tracking()

    def do(self, task: dict[str, Any]) -> None:
        """Compute a run, and send its outcome."""
        try:
            session = self._opened(task["config"])
        except Exception as error:
            self.channel.say("refused", said=_words(error))
            return
        self.channel.say("loaded")
        self._evaluate(session, task)

    def _opened(self, text: str) -> Session:
        """The session of a configuration, given as YAML; the previous session's model is reused if it is the same."""
        if self._session is None or self._session[0] != text:
            config = OmegaConf.create(text)
            assert isinstance(config, DictConfig)
            before = self._session[1] if self._session else None
            session = Session(config, beside=before, device=self.device)
            if before is not None:
                session.succeed(before)
            self._session, self._tracking = (text, session), tracking_of(session)
        session = self._session[1]
        session.adapter  # noqa: B018 - loaded here, so that what keeps it from being loaded is told apart
        return session

    def _evaluate(self, session: Session, task: dict[str, Any]) -> None:
        from parbench.harness.evaluate import evaluate

        method = OmegaConf.create(task["method"])
        assert isinstance(method, DictConfig)
        say = self.channel.say
        try:
            found = evaluate(
                session,
                session.reducer(method, task["budget"]),
                wait=task["wait"],
                progress=self._progress,
                tracking=self._tracking,
            )
        except DeviceFailed as error:
            say("device", said=str(error))
        except FatalError as error:
            say("fatal", said=str(error))
        except RunLockedError:
            say("held")
        except Exception as error:
            say("failed", said=_words(error), defect=not isinstance(error, ParbenchError))
        else:
            say("done", folder=str(found.folder), reused=found.reused)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ParbenchError) else f"{type(error).__name__}: {error}"


def _tasks() -> queue.Queue[dict[str, Any]]:
    """A queue of incoming tasks; a reader thread ends the process when stdin is closed."""
    found: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            found.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return found


def main() -> None:
    """Compute tasks until stdin is closed."""
    device, threads, level = sys.argv[1:]
    own_process()
    # Keep what libraries print out of the messages.
    channel = _Channel(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    tasks = _tasks()
    import torch

    # The number of threads determines how sums are split, and so their last bits.
    torch.set_num_threads(int(threads))
    computing = Computing(device, channel)
    with shown(int(level)):
        while True:
            computing.do(tasks.get())


if __name__ == "__main__":
    main()

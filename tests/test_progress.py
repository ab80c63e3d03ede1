"""Progress: bars on a terminal, lines elsewhere, nothing where messages are not heard."""

from __future__ import annotations

import contextlib
import io
import logging
import re

import pytest

from parbench import progress
from parbench.harness.progress import Progress
from parbench.log import shown
from parbench.progress import bar, counted, duration, working


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in the place of the error output, from where a test opens it on."""
    monkeypatch.setenv("COLUMNS", "200")

    @contextlib.contextmanager
    def opened():
        with contextlib.redirect_stderr(Terminal()) as found:
            yield found

    return opened


def drawn(terminal: Terminal) -> list[str]:
    """What stood on the terminal, line by line."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_a_bar_says_numbers_with_units_a_rate_and_the_time_left(terminal):
    with terminal() as screen, shown(), bar("asking", "question", 100, still=True) as one:
        one._past[0] = (one._past[0][0] - 10, 0.0)
        one.step(20)
    assert re.search(r"asking .* 20 of 100 questions, \S+ questions/s, 40 s left", drawn(screen)[-1])


def test_nothing_is_drawn_before_there_is_something_to_count(terminal):
    with terminal() as screen, shown(), Progress(), bar("asking", "question"):
        pass
    assert screen.getvalue() == ""


def test_messages_stand_above_a_bar(terminal):
    with terminal() as screen, shown(), working("waiting"):
        logging.getLogger("parbench.some.module").info("100 % done")
    assert "100 % done" in drawn(screen)


def test_quiet_and_python_see_no_bar(terminal):
    with terminal() as screen:
        with shown(logging.WARNING), working("waiting"):
            pass
        with working("waiting"):
            pass
    assert screen.getvalue() == ""


def test_elsewhere_there_is_a_line_now_and_then(capsys, clock):
    with shown():
        for _ in counted(range(100), "asking", "question", 100):
            clock[0] += 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "asking: 30 of 100 questions, 1 questions/s, 1 min 10 s left",
        "asking: 60 of 100 questions, 1 questions/s, 40 s left",
        "asking: 90 of 100 questions, 1 questions/s, 10 s left",
    ]


def test_the_rate_is_that_of_the_last_seconds_and_of_what_is_done_here(clock):
    with Progress() as questions:
        questions.expect("a", 2000, 500, "par @64")
        made = questions._bar
        for per_second in (1, 10):
            for _ in range(60):
                clock[0] += 1
                questions.step("a", per_second)
        assert made.rate == pytest.approx(10, rel=0.05)
        assert (made.shown, made.total, made.title) == (1160, 2000, "par @64")
        questions.expect("b", 200, 0)
        assert made.total == 2200
        assert made.rate == pytest.approx(10, rel=0.05)
        questions.settle("a")
        assert made.total == 1160 + 200


def test_a_bar_moves_inside_a_batch(clock):
    with bar("asking", "question", 100) as one:
        clock[0] += 1
        one.within(2.5)
        assert one.shown == 2.5
        clock[0] += 1
        one.step(8)
        assert one.shown == 8
        assert one.rate == 4


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (61, "1 min 01 s"), (3725, "1 h 02 min")])
def test_times_are_said_as_people_read_them(seconds, said):
    assert duration(seconds) == said


@pytest.mark.cli
def test_layers_tell_how_far_a_batch_is(run, monkeypatch, terminal):
    from parbench.progress import Bar

    inside = []
    monkeypatch.setattr(Bar, "within", lambda self, count: inside.append(count))
    with terminal():
        code, _, _ = run("eval", "method=none", "controls=[]", "limit=4", "results_dir=runs", "engine.batch_size=4")
    assert code == 0
    assert inside
    assert all(0 < one < 4 for one in inside)
    assert inside == sorted(inside)

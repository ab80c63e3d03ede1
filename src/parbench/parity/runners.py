"""Which module compares which recorded method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from parbench.parity import tokens
from parbench.parity.case import Case, Verdict

# Each has METHODS, the recorded names that it serves, and run(case).
_MODULES = (tokens,)


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: The case.
        verdict: What was compared; empty where nothing could be.
        status: ``match``, ``mismatch``, ``error`` (our method failed on it) or ``skipped``.
        reason: Why it is skipped, what failed, or what differs; may be empty.
    """

    case: Case
    verdict: Verdict
    status: Literal["match", "mismatch", "error", "skipped"]
    reason: str = ""


def known() -> dict[str, Callable[[Case], Verdict]]:
    """Runners by recorded method name."""
    return {name: module.run for module in _MODULES for name in module.METHODS}


def compare(cases: Iterable[Case]) -> list[Outcome]:
    """Run every case; one that fails does not stop the others."""
    runners = known()
    outcomes = []
    for case in cases:
        if case.method not in runners:
            outcomes.append(Outcome(case, Verdict(), "skipped", f"no method {case.method} here"))
            continue
        try:
            verdict = runners[case.method](case)
        except Exception as error:
            # Whatever a method raises, the case does not match and the others still count.
            first = str(error).partition("\n")[0]
            outcomes.append(Outcome(case, Verdict(), "error", f"{type(error).__name__}: {first}"))
            continue
        if verdict.skipped:
            outcomes.append(Outcome(case, verdict, "skipped", verdict.skipped))
        else:
            status: Literal["match", "mismatch"] = "match" if verdict.matches else "mismatch"
            outcomes.append(Outcome(case, verdict, status, "; ".join(verdict.notes)))
    return outcomes

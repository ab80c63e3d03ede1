"""Runs recorded cases, each with what compares its method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from parbench.parity.case import Case, Verdict
from parbench.parity.finding import parity_of


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


def compare(cases: Iterable[Case]) -> list[Outcome]:
    """Run every case; one that fails does not stop the others."""
    return [_compare(case) for case in cases]


def _compare(case: Case) -> Outcome:
    try:
        parity = parity_of(case.method)
        if parity is None:
            return Outcome(case, Verdict(), "skipped", f"nothing compares cases of {case.method} here")
        if reason := parity.unsupported(case):
            return Outcome(case, Verdict(), "skipped", reason)
        verdict = parity.run(case)
    except Exception as error:
        # Whatever a method raises, the case does not match and the others still count.
        first = str(error).partition("\n")[0]
        return Outcome(case, Verdict(), "error", f"{type(error).__name__}: {first}")
    return Outcome(case, verdict, "match" if verdict.matches else "mismatch", "; ".join(verdict.notes))

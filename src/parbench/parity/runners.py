"""Runs recorded cases, each with the parity module of its method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from parbench.parity.case import Case, Verdict
from parbench.parity.finding import parity_of


@dataclass(frozen=True)
class Outcome:
    """The result of a case.

    Attributes:
        case: The case.
        verdict: The comparison; empty if nothing was compared.
        status: ``match``, ``mismatch``, ``error`` (our method failed on it) or ``skipped``.
        reason: Why it was skipped, what failed, or what differs; may be empty.
    """

    case: Case
    verdict: Verdict
    status: Literal["match", "mismatch", "error", "skipped"]
    reason: str = ""


def compare(cases: Iterable[Case]) -> list[Outcome]:
    """Run every case. A failing case does not stop the others."""
    return [_compare(case) for case in cases]


def _compare(case: Case) -> Outcome:
    try:
        parity = parity_of(case.method)
        if parity is None:
            return Outcome(case, Verdict(), "skipped", f"there is no parity module for {case.method}")
        if reason := parity.unsupported(case):
            return Outcome(case, Verdict(), "skipped", reason)
        verdict = parity.run(case)
    except Exception as error:
        # Any exception of a method is a failed case; the others still run.
        first = str(error).partition("\n")[0]
        return Outcome(case, Verdict(), "error", f"{type(error).__name__}: {first}")
    return Outcome(case, verdict, "match" if verdict.matches else "mismatch", "; ".join(verdict.notes))

"""Which module compares which recorded method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from parbench.parity import layers, tokens, tower
from parbench.parity.case import Case, Verdict

# Each has METHODS, the recorded names that it serves; unsupported(case), why it cannot compare a case, or None; and run(case).
_MODULES: tuple[ModuleType, ...] = (tokens, layers, tower)


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


def served() -> dict[str, ModuleType]:
    """The module that compares each recorded method."""
    return {name: module for module in _MODULES for name in module.METHODS}


def compare(cases: Iterable[Case]) -> list[Outcome]:
    """Run every case; one that fails does not stop the others."""
    modules = served()
    return [_compare(case, modules.get(case.method)) for case in cases]


def _compare(case: Case, module: ModuleType | None) -> Outcome:
    if module is None:
        return Outcome(case, Verdict(), "skipped", f"no method {case.method} here")
    try:
        if reason := module.unsupported(case):
            return Outcome(case, Verdict(), "skipped", reason)
        verdict: Verdict = module.run(case)
    except Exception as error:
        # Whatever a method raises, the case does not match and the others still count.
        first = str(error).partition("\n")[0]
        return Outcome(case, Verdict(), "error", f"{type(error).__name__}: {first}")
    return Outcome(case, verdict, "match" if verdict.matches else "mismatch", "; ".join(verdict.notes))

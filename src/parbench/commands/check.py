"""``parbench check``: run the conformance checks on a method."""

from __future__ import annotations

from parbench.commands.parsing import Given
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.progress import working


def run(given: Given) -> int:
    """Print a line for each check.

    Returns:
        1 if a check fails, else 0.

    Raises:
        ParbenchError: No method is named, an override is wrong, or the model cannot be loaded.
    """
    if not any(word.startswith("method=") for word in given.rest):
        raise ParbenchError("check takes a method: write parbench check method=NAME")
    config = compose_config(given.rest)
    method = build_reducer(config.method, config.budget)
    with working("loading the model"):
        from parbench.harness.session import Session
        from parbench.testing.conformance import outcomes

        adapter = Session(config).adapter
    if config.budget is not None:
        method.check(adapter.geometry)
    found = []
    for outcome in outcomes(method, adapter):
        found.append(outcome.status)
        print(f"{outcome.status:14}  {outcome.check}{f': {outcome.reason}' if outcome.reason else ''}", flush=True)
    passed, failed = found.count("passed"), found.count("failed")
    print(f"{method.name}: {passed} passed, {failed} failed, {len(found) - passed - failed} not applicable")
    return int(failed > 0)

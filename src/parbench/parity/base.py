"""The interface of ``PARITY`` in modules of :mod:`parbench.parity.methods`: compares our class with recorded cases of a method."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

from parbench.config import build_reducer, compose_config
from parbench.parity.case import Case, Verdict
from parbench.reducers import Reducer


class Parity(ABC):
    """Compares our class with recorded cases of a method."""

    def method(self, case: Case) -> str:
        """The name in ``conf/method`` of the method that a case is compared with."""
        return case.method.replace("_", "-")

    def unsupported(self, case: Case) -> str | None:
        """Why a case cannot be compared; None if it can."""
        return None

    @abstractmethod
    def run(self, case: Case) -> Verdict:
        """Run the class that evaluations use on a case, and compare its output with the recorded one.

        Raises:
            ParbenchError: A file or a tensor that the comparison needs is missing.
        """


@lru_cache(maxsize=32)
def default(method: str) -> Reducer:
    """A method with the values of its YAML."""
    return build_reducer(compose_config([f"method={method}"]).method)


def built(method: str, **fields: Any) -> Any:
    """A method without a budget, with the given fields; the others are those of its YAML."""
    return dataclasses.replace(default(method), **{"budget": None, **fields})

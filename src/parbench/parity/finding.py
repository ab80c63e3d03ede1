"""Lookup of the module that compares a recorded method, in the package or next to a method from outside."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pkgutil import iter_modules

from parbench.config import compose_config, names
from parbench.errors import ParbenchError
from parbench.parity import methods
from parbench.parity.base import Parity


def shipped() -> list[str]:
    """The names of recorded methods that the package can compare."""
    return sorted(module.name for module in iter_modules(methods.__path__))


def parity_of(recorded: str) -> Parity | None:
    """The ``PARITY`` for the cases of a recorded method; None if there is none.

    Cases of ``my_method`` are compared by ``parbench.parity.methods.my_method``. For a method from outside the package, with its
    class in the module ``mine``, it is the module ``mine_parity``.

    Raises:
        ParbenchError: The module has no ``PARITY``.
    """
    name = f"{methods.__name__}.{recorded}" if recorded in shipped() else _beside(recorded)
    if name is None:
        return None
    found = getattr(importlib.import_module(name), "PARITY", None)
    if not isinstance(found, Parity):
        raise ParbenchError(f"{name} has no PARITY: define it as an instance of a class from parbench.parity")
    return found


def _beside(recorded: str) -> str | None:
    """The parity module of a method from outside the package; None if there is none."""
    known = names("method")
    for method in (recorded, recorded.replace("_", "-")):
        if method in known:
            module = compose_config([f"method={method}"]).method["_target_"].rpartition(".")[0] + "_parity"
            return module if find_spec(module) else None
    return None

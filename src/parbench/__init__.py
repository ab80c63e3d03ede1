"""parbench: what visual-token reduction costs in accuracy and what it really saves.

What is offered is imported when it is first asked for; ``__init__.pyi`` says the same to type checkers and editors.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOMES = {
    "ParbenchError": "errors",
    "compare": "api.results",
    "evaluate": "api.results",
    "flops": "api.costs",
    "load_model": "api.models",
    "load_results": "api.results",
    "method": "api.methods",
    "reduce": "api.reducing",
}

__all__ = ["ParbenchError", "compare", "evaluate", "flops", "load_model", "load_results", "method", "reduce"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""The class that a method's YAML names."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

from parbench.config.groups import names
from parbench.config.plain import option
from parbench.errors import ParbenchError


def class_of(target: Any, method: str) -> Any:
    """The class of a method.

    Args:
        target: ``_target_`` of its YAML, a dotted module and class; None if the YAML has none.
        method: The method's name, for errors.

    Raises:
        ParbenchError: The target is missing, cannot be imported, or is not a method's class.
    """
    if not target:
        raise ParbenchError(
            f"the YAML of method {method} names no class: write its module and class as _target_: my_module.MyMethod"
        )
    module, _, name = str(target).rpartition(".")
    if not module:
        raise ParbenchError(f"_target_: {target} of method {method} names no module: write it as _target_: my_module.{target}")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ParbenchError(_missing(module, error.name or module, method)) from error
    except AttributeError as error:
        raise ParbenchError(f"module {module} of method {method} has no class {name}: correct _target_ in its YAML") from error
    except Exception as error:  # Anything a user's module raises.
        said = (str(error) or "no reason given").splitlines()[0]
        raise ParbenchError(f"module {module} of method {method} cannot be imported: {type(error).__name__}: {said}") from error
    if not inspect.isclass(found) or not dataclasses.is_dataclass(found) or not hasattr(found, "check"):
        raise ParbenchError(
            f"{target} of method {method} is not a method's class: write @dataclass over a class on one of parbench.reducers"
        )
    return found


def methods_for_videos() -> list[str]:
    """Names of the methods that compare the frames of a video, and so refuse still images.

    Raises:
        ParbenchError: The YAML of a method cannot be read, or its class cannot be imported.
    """
    targets = {name: option("method", name).get("_target_") for name in names("method")}
    return [name for name, target in targets.items() if "frames" in getattr(class_of(target, name), "needs", ())]


def _missing(module: str, missing: str, method: str) -> str:
    """Which module is missing, in words: the method's own, or one that it imports."""
    if module == missing or module.startswith(f"{missing}."):
        return (
            f"module {module} of method {method} is not found: put its folder on PYTHONPATH, or install the package that it is in"
        )
    return f"module {module} of method {method} needs {missing}, which is not found: install it, or put its folder on PYTHONPATH"


def built(kind: Any, settings: dict[str, Any], method: str) -> Any:
    """An instance of a method's class.

    Raises:
        ParbenchError: The class rejects the fields, or some are missing.
    """
    try:
        return kind(**settings)
    except ParbenchError:
        raise
    except Exception as error:  # Anything a user's class raises.
        said = " ".join(str(error).split()) or "no reason given"
        raise ParbenchError(f"method {method} cannot be built: {type(error).__name__}: {said}") from error

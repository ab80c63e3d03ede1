"""What the package ships beside its code."""

from __future__ import annotations

from importlib import resources

# The models that parbench itself makes.
SHIPPED = ("llava-tiny", "qwen-tiny")


def asset(name: str) -> str:
    """Path of a model that is shipped in the package (``llava-tiny``)."""
    return str(resources.files("parbench").joinpath("assets", name))

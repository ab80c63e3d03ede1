"""Tools for testing a method."""

from parbench.testing.conformance import check_method

__all__ = ["check_method"]

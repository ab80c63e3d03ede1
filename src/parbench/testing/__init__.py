"""What the author of a method tests it with."""

from parbench.testing.conformance import check_method

__all__ = ["check_method"]

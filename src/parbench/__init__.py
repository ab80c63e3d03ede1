"""parbench: what visual-token reduction costs in accuracy and what it really saves."""

__version__ = "0.1.0"

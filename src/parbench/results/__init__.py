"""Runs on the disk: written, measured, and read back by ``load``."""

from parbench.reading import Results, load

__all__ = ["Results", "load"]

"""Runs on the disk: written, measured, and read back by ``load``."""

from parbench.results.loading import Results, load

__all__ = ["Results", "load"]

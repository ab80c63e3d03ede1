"""Runs on disk: their files, their metrics, and ``load`` to read them back."""

from parbench.results.loading import Results, load

__all__ = ["Results", "load"]

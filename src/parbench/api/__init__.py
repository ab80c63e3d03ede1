"""The Python API: what ``import parbench`` offers.

Each task has its own module, which is imported when ``parbench.NAME`` is first accessed.
"""

"""The face for Python: what ``import parbench`` offers.

A module for each job; ``parbench.NAME`` imports the one that it needs when it is first asked for.
"""

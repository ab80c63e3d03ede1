"""Parity: comparison of our methods with recorded outputs of the authors' published code."""

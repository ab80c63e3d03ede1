"""Figures of a sweep: accuracy against savings, by skill and by evidence, and the kept tokens of an image."""

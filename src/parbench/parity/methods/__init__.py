"""One module a recorded method, named as the cases name it; each has a ``PARITY``."""

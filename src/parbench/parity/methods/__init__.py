"""One module per recorded method, named as in the cases; each defines ``PARITY``."""

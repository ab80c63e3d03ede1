"""The tasks of lmms-eval: which exist, and which parbench supports, without importing them."""

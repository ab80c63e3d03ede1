"""The tasks that lmms-eval brings along: which there are, and which of them parbench can run, without importing them."""

"""Sweeps: which runs they consist of, and how they are computed: here, one process per device, or by jobs of a cluster."""

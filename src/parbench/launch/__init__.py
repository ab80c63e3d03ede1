"""Sweeps spread over devices of this machine (``launcher.devices``) or over a SLURM cluster (``launcher=slurm``)."""

"""A sweep as jobs on a SLURM cluster: ``launcher=slurm``."""

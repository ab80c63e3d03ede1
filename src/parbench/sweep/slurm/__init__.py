"""A sweep as jobs of a SLURM cluster: ``launcher=slurm``."""

"""A sweep with one process per device of this machine: ``launcher.devices=[0,1]``."""

"""A sweep in one process a device of this machine: ``launcher.devices=[0,1]``."""

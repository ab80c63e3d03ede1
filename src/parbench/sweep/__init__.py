"""Many runs: which there are, computed in this process, in one a device (``launcher.devices``) or by jobs of a cluster."""

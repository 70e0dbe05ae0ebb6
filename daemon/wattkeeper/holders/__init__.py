"""Add a way to see who holds a device here: one file each, behind the protocol in `base`."""

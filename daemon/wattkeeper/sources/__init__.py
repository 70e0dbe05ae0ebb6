"""Add a sensor here: one file each, behind the protocol in `base`."""

"""The units in a systemd that has booted."""

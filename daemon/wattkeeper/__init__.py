"""Wattkeeper: fleet-wide GPU and CPU energy accounting whose books balance."""

__version__ = "0.1.0"

"""Certificates: read, renewed, explained."""

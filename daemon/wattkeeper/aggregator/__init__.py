"""Composition root of the centre: configuration, intake and API."""

"""Sampler, split and journal: from readings to windows on disk, without losing a microjoule."""

"""Tests of wattkeeper.model."""

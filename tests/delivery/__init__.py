"""Tests of wattkeeper.delivery."""

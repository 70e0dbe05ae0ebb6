"""Tests of wattkeeper.metering."""

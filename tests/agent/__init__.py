"""Tests of wattkeeper.agent."""

"""Tests of the ways to see holders."""

"""Tests of what energy costs and emits."""

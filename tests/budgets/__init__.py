"""Tests of budgets without an aggregator."""

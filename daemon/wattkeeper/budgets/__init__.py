"""Budgets: limits on power, energy and demand, how they stand, and who is told."""

"""The dashboards there are."""

from grafana import accounts, budgets, fleet, health, job, node

DASHBOARDS = tuple(part.BOARD for part in (fleet, node, job, accounts, budgets, health))

"""Dashboards, and rules, on a real Prometheus that scrapes real agents."""

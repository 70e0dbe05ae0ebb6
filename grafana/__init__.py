"""Dashboards for Grafana as code. `python3 -m grafana` writes `grafana/dashboards/*.json` anew.

For development only: what Grafana reads are the files, which are committed.
"""

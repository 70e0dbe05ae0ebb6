"""Dashboards on an engine with a parser of its own."""

from pathlib import Path

import pytest

from tests.grafana.boards import filled, queries
from tests.grafana.engines import Prometheus
from tests.telemetry.engines import victoria_metrics

_VALUES = dict.fromkeys(
    ("cluster", "group", "node", "account", "budget", "job", "workload", "place"), ".*"
)


@pytest.mark.engines
def test_victoria_metrics_takes_every_query(tmp_path: Path) -> None:
    """An empty one: it understands them all. What they answer is tested on Prometheus alone."""
    values = {**_VALUES, "kind": "rack", "__rate_interval": "1m", "__range": "1h"}
    with victoria_metrics(tmp_path) as store:
        engine = Prometheus(store.url)
        for asked in queries():
            engine.instant(filled(asked.expr, values))

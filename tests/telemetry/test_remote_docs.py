"""`docs/telemetry-remote.md` names every series, and its queries work."""

import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.telemetry.engines import prometheus, victoria_metrics
from tests.telemetry.made import HOLDERS, PLACES
from tests.telemetry.remote_stores import ORIGIN_MS, remote_store, row

from wattkeeper.telemetry.base import HOLDER_LABELS
from wattkeeper.telemetry.remote_check import CHECK
from wattkeeper.telemetry.remote_series import METER_SERIES, PLACE_LABELS, SHARE_SERIES

_PAGE = (Path(__file__).parents[2] / "docs/telemetry-remote.md").read_text()
_QUERIES = re.findall(r"```promql\n(.*?)```", _PAGE, re.DOTALL)


def test_every_series_is_told() -> None:
    """With all of its labels, and none that there is not."""
    names = {re.sub("_(min|mean|max)$", "", name) for name in (*METER_SERIES, *SHARE_SERIES)}
    told = set(re.findall(r"^\| `(wattkeeper_\w+?)(?:_min)?`", _PAGE, re.MULTILINE))
    assert names | {CHECK} == told
    assert f"{len(METER_SERIES)} series" in _PAGE
    assert all(f"`{label}`" in _PAGE for label in (*PLACE_LABELS, *HOLDER_LABELS))
    used = set(re.findall(r"wattkeeper_\w+", " ".join(_QUERIES)))
    assert used <= {*METER_SERIES, *SHARE_SERIES}


@pytest.mark.engines
@pytest.mark.parametrize("start", [prometheus, victoria_metrics])
def test_every_query_has_an_answer(start: type, tmp_path: Path) -> None:
    """On either engine."""
    assert len(_QUERIES) >= 5
    plain = row(0, PLACES[0])
    parts = (
        replace(plain.parts[0], workload="4711"),
        replace(plain.parts[0], account=HOLDERS[3][0], manager="", workload="", birth_ms=0),
    )
    with start(tmp_path) as engine, remote_store(engine.write_url, tmp_path) as store:
        store.write([replace(plain, parts=parts, uj=2 * plain.uj)], {})
        engine.flush()
        for query in _QUERIES:
            form = {"query": query, "time": ORIGIN_MS // 1000 + 60, "nocache": 1}
            data = urllib.parse.urlencode(form).encode()
            with urllib.request.urlopen(f"{engine.url}/api/v1/query", data) as answer:
                found = json.loads(answer.read())["data"]["result"]
            assert [float(one["value"][1]) > 0 for one in found] == [True], query

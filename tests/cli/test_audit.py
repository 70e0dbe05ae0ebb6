"""`wattkeeper audit`."""

import csv
import io
import json

from tests.aggregator.conftest import Centre
from tests.cli.conftest import Run


async def test_the_log_is_listed(centre: Centre, run: Run) -> None:
    """Who asked for which job, in each form."""
    await centre.fed()
    assert (await run("job", "123")).code == 0
    await centre.aggregator.auditing.flush()
    done = await run("audit", "--act", "job")
    assert (0, True) == (done.code, "west/123" in done.out)
    done = await run("audit", "--since", "-1h", "--act", "job", "--format", "json")
    (one,) = json.loads(done.out)["entries"]
    assert ("operator", "200", 1) == (one["role"], one["result"], one["times"])
    done = await run("audit", "--format", "csv")
    assert "job" in {row["act"] for row in csv.DictReader(io.StringIO(done.out))}

"""`wattkeeper forget`."""

import csv
import io
import json

from tests.aggregator.conftest import Centre
from tests.cli.conftest import Run


async def test_a_person_is_forgotten_and_all_is_told(centre: Centre, run: Run) -> None:
    """What was done, what is left, and where else to look; 1 where nobody has that name."""
    await centre.fed()
    done = await run("forget", "alice", "--cluster", "east")
    assert (1, True) == (done.code, "bear the name" in done.out)
    done = await run("forget", "alice", "--format", "json")
    told = json.loads(done.out)
    assert (0, 1) == (done.code, told["runs"])
    assert told["pseudonym"] in (await run("jobs", "--user", told["pseudonym"])).out
    done = await run("forget", told["pseudonym"])
    for part in ("1 runs", "are of person~", "not reached", "Prometheus"):
        assert part in done.out
    done = await run("forget", "physics", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert "0 runs" == rows[0]["count"]

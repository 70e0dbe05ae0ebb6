"""Names of people, as an aggregator keeps and forgets them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.conftest import Centre, settings
from tests.aggregator.feeding import Feeder
from tests.aggregator.roles import SHARED, ask, guarded
from wattkeeper.ledger.erasing import MARK
from wattkeeper.ledger.store import LedgerError
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.state import State

MONTH: dict[str, Any] = {"retention": {"identities": timedelta(days=30)}}


async def ask_to_forget(centre: Centre, token: str = "", **asked: Any) -> tuple[int, Any]:
    """Post to `/v1/forget`; return status and body."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{centre.aggregator.url}/v1/forget"
    async with centre.session.post(url, json=asked, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_person_is_forgotten(tmp_path: Path) -> None:
    """No answer names them any more; what they used is there under the pseudonym."""
    async with guarded(tmp_path) as centre:
        await centre.fed()
        for who, status in (("", 401), (SHARED, 403), ("ann", 403)):
            assert (await ask_to_forget(centre, who, user="alice"))[0] == status
        assert b"train" in (await ask(centre, "operator", "/v1/jobs", user="alice"))[1]
        status, done = await ask_to_forget(centre, "oper", user="alice")
        assert (status, done["runs"], done["remaining"], done["on_disk"]) == (200, 1, {}, None)
        _, told = await ask(centre, "operator", "/v1/report", by="user")
        assert done["pseudonym"].encode() in told
        for path in ("/v1/jobs", "/v1/fleet", "/v1/budgets", "/v1/devices", "/metrics", "/"):
            status, told = await ask(centre, "operator", path)
            assert (status, b"alice" in told) == (200, False)
        assert (await ask_to_forget(centre, "oper", user="alice"))[1]["runs"] == 0


async def test_where_anybody_is_an_operator(tmp_path: Path) -> None:
    """Whoever has names erased proves who they are, as soon as there is a way to."""
    async with guarded(tmp_path, anonymous="operator") as centre:
        assert (await ask(centre, "public", "/v1/jobs"))[0] == 200
        assert (await ask_to_forget(centre, user="alice"))[0] == 401


async def test_who_cannot_be_forgotten(centre: Centre) -> None:
    """What is asked wrongly is told by its field."""
    for asked, field in (
        ({}, "user"),
        ({"user": ""}, "user"),
        ({"user": "x" * 257}, "user"),
        ({"user": "a", "since": "2027"}, "since"),
    ):
        status, problem = await ask_to_forget(centre, **asked)
        assert (status, problem["field"]) == (400, field)


@pytest.mark.parametrize("centre", [MONTH], indirect=True)
async def test_names_go_when_they_are_old(centre: Centre) -> None:
    """A month after the job was last seen, not before; later jobs keep theirs."""
    feeder = await centre.fed()
    centre.clock[0] = feeder.at_ms + 29 * DAY_MS
    assert await centre.aggregator.identities.expire()
    assert "alice" in await centre.text("/v1/jobs?since=-60d")
    centre.clock[0] = feeder.at_ms + 31 * DAY_MS
    later = Feeder(node="n2", journal="j2", uuid="GPU-2", raw_id="9", origin_ms=centre.clock[0])
    later.labels = {"job_id": "9", "user": "alice"}
    await centre.fed(later)
    assert await centre.aggregator.identities.expire()
    _, found = await centre.get("/v1/jobs", since="-60d")
    users = {one["job_id"]: one["user"] for one in found["jobs"]}
    assert (users["9"], users["123"].startswith(MARK)) == ("alice", True)


async def test_names_that_cannot_go_are_told(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it works again."""
    people = centre.aggregator.identities

    def fails(_: int) -> bool:
        raise LedgerError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(people._expiry, "piece", fails)
        assert not await people.expire()
    (told,) = people.findings()
    assert (told.state, told.detail) == (State.FAILING, "disk full")
    assert await people.expire()
    assert people.findings() == []


def test_how_long_names_are_kept(tmp_path: Path) -> None:
    """Thirteen months; any time from a day on can be set."""
    assert settings(tmp_path).retention.identities == timedelta(days=396)
    with pytest.raises(ValueError, match="a day at least"):
        settings(tmp_path, retention={"identities": timedelta(hours=1)})


@pytest.mark.parametrize("centre", [{"metrics": {"identity": "user"}}], indirect=True)
async def test_metrics_forget_too(centre: Centre) -> None:
    """Where users are exported, the next scrape tells the pseudonym."""
    await centre.fed()
    assert 'user="alice"' in await centre.text("/metrics")
    _, done = await ask_to_forget(centre, user="alice")
    centre.aggregator.exporter.expire()
    told = await centre.text("/metrics")
    assert ("alice" in told, f'user="{done["pseudonym"]}"' in told) == (False, True)

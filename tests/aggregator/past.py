"""Books and history of the same windows, and the endpoints that ask for them."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.aggregator.feeding import START_MS, Feeder
from tests.telemetry.memory_store import MemoryStore
from wattkeeper.aggregator.access.caller import Caller
from wattkeeper.aggregator.access.gate import CALLER, Handler
from wattkeeper.aggregator.access.roles import Role
from wattkeeper.aggregator.api import Api
from wattkeeper.aggregator.app import problems
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.live import Live
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.targets import Targets
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.window import Record, Spread, Window
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo
from wattkeeper.telemetry.base import Part, Place, Row, TelemetryStore

GROUPS = {"rack": {"r12": ("node[001-002]",)}}
BOB = {"job_id": "124", "user": "bob", "account": "chemistry", "partition": "cpu"}


@web.middleware
async def _asked_by_an_operator(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[CALLER] = Caller(Role.OPERATOR)
    return await handler(request)


class Past:
    """A ledger, a store with the same windows, and an API over both; nothing listens."""

    def __init__(self, folder: Path, store: TelemetryStore | None = None) -> None:
        self.clock = [START_MS]
        self.ledger = Ledger.open(folder / "ledger.sqlite")
        self.intake = Intake(self.ledger)
        self.rows = MemoryStore()
        self.store: TelemetryStore = store or self.rows
        settings = AggregatorSettings(data_dir=folder, groups=GROUPS)
        fleet = Fleet(self.ledger, Live(self.ledger), settings, self.now_ms)
        targets = Targets(folder / "targets.json")
        self.api = Api(
            self.ledger, fleet, targets, self.now_ms, findings=list, telemetry=self.store
        )
        self.bare = Api(self.ledger, fleet, targets, self.now_ms, findings=list)
        self.endpoints = {one.path: one for one in self.api.endpoints()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()
        self.bare.close()
        self.ledger.close()

    def now_ms(self) -> int:
        """Return what the clock says."""
        return self.clock[0]

    def feed(self, feeder: Feeder | None = None, windows: int = 180) -> Feeder:
        """Book windows of a node, half an hour of them, and remember them."""
        feeder = feeder or Feeder()
        records = feeder.run(windows)
        self.clock[0] = max(self.clock[0], feeder.at_ms)
        self.intake.accept(feeder.batch(records), self.clock[0])
        self.intake.commit_sync()
        for store in {id(one): one for one in (self.rows, self.store)}.values():
            store.write(rows(feeder, records), {})
        return feeder

    def two_jobs(self) -> "Past":
        """Book half an hour of two nodes, one of them in a rack: a job of alice, one of bob."""
        self.feed()
        self.feed(Feeder(node="node003", journal="j2", raw_id="124", labels=BOB, uuid="GPU-2"))
        return self

    def knows(self, *runs: WorkloadInfo) -> None:
        """Take an answer of Slurm."""
        record_knowledge(self.ledger, "slurm", Knowledge(runs), now_ms=self.clock[0])

    def get(self, path: str, query: Sequence[tuple[str, str]] = (), /, **more: str) -> Any:
        """Return the body of an answer.

        Raises:
            ProblemError: what the answer would say.

        """
        endpoint, found = self._route(path)
        url = f"{path}?{urlencode([*query, *more.items()])}"
        asked = endpoint.read(make_mocked_request("GET", url, match_info=found))
        return json.loads(endpoint.respond(asked, None).model_dump_json())

    def problem(self, path: str, **query: str) -> ProblemError:
        """Return what is wrong with a question."""
        try:
            self.get(path, **query)
        except ProblemError as found:
            return found
        raise AssertionError(f"{path} {query} was answered")

    def _route(self, path: str) -> tuple[Any, dict[str, str]]:
        if path in self.endpoints:
            return self.endpoints[path], {}
        _, _, cluster, job, *_ = path.strip("/").split("/")
        return self.endpoints["/v1/jobs/{cluster}/{id}/trace"], {"cluster": cluster, "id": job}

    def app(self, pool: ThreadPoolExecutor, api: Api | None = None) -> web.Application:
        """Return an application that serves the questions."""
        app = web.Application(middlewares=[problems, _asked_by_an_operator])
        for endpoint in (api or self.api).endpoints():
            app.router.add_get(endpoint.path, endpoint.handler(pool))
        return app


def rows(feeder: Feeder, records: Sequence[Record]) -> list[Row]:
    """Return the windows among a node's records as rows; they get a temperature, 50 °C."""
    return [_row(feeder, one) for one in records if isinstance(one, Window)]


def _row(feeder: Feeder, window: Window) -> Row:
    info = feeder._meters()[window.meter]
    _, _, device = info.name.partition("/")
    place = Place(
        cluster=feeder.cluster,
        node=feeder.node,
        meter=info.name,
        component=info.component.value,
        device=device,
        gpu=info.labels.get("gpu", ""),
        model="H100" if "uuid" in info.labels else "",
        source=info.source,
    )
    parts = []
    for share in window.shares:
        who = ("", "", 0)
        if share.holder >= FIRST_HOLDER:
            holder = feeder._holders()[share.holder]
            who = (holder.manager, holder.raw_id, holder.birth_ms)
        account = "workload" if who[0] else Account(share.holder).name.lower()
        times = (share.from_ms, share.to_ms)
        parts.append(Part(account, *who, *times, share.uj, share.idle_uj))
    stats = window.stats and msgspec.structs.replace(
        window.stats, temperature_mc=Spread(40_000, 50_000, 60_000)
    )
    return Row(
        place=place,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        covered_ms=window.covered_ms,
        uj=window.energy_uj,
        method=window.method.name.lower(),
        recovered=False,
        parts=parts,
        stats=stats,
    )

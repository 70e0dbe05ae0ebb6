"""The aggregator's configuration: `/etc/wattkeeper/aggregator.toml` and its likes."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from wattkeeper.aggregator.groups import expand
from wattkeeper.settings import Address, Duration, Section, Settings, data_dir
from wattkeeper.values import format_duration, milliseconds

_SLOTS = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 30, 60))


class LedgerSection(Section):
    """The books."""

    url: str | None = Field(
        None, description="database, like sqlite:////srv/ledger.sqlite; a file in data_dir"
    )
    slot: Duration = Field(
        timedelta(minutes=15), description="length of a posting's slot: 5m, 15m, 30m or 60m"
    )

    @field_validator("slot")
    @classmethod
    def _known_slot(cls, value: timedelta) -> timedelta:
        if value not in _SLOTS:
            names = ", ".join(format_duration(slot) for slot in _SLOTS)
            raise ValueError(f"is not a slot length; choose one of {names}")
        return value

    @field_validator("url")
    @classmethod
    def _sqlite(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("sqlite:///"):
            raise ValueError("is not supported; write sqlite:////absolute/path/ledger.sqlite")
        return value


class MetricsSection(Section):
    """What the aggregator's own `/metrics` shows."""

    identity: Literal["account", "user", "none"] = Field(
        "account", description="who is named in wattkeeper_workload_info"
    )
    max_jobs: int = Field(2000, ge=0, description="jobs with series of their own, at most")


class AggregatorSettings(Settings):
    """Keep the fleet's books: take deliveries of agents, answer questions.

    Every key below may also stand in the file, or in the environment as
    WATTKEEPER_AGGREGATOR_DATA_DIR, WATTKEEPER_AGGREGATOR_LEDGER__SLOT, …

    Examples:
      wattkeeper aggregator
      wattkeeper aggregator --listen 0.0.0.0:9746 --token "$(cat token)"
      wattkeeper aggregator --config my.toml --data-dir /srv/wattkeeper
    """

    listen: Address = Field("127.0.0.1:9746", description="host:port of intake, API and metrics")
    data_dir: Path = Field(
        default_factory=lambda: data_dir("aggregator"),
        description="folder of the ledger; a local disk",
    )
    token: SecretStr | None = Field(
        None, description="what agents must show to deliver (Authorization: Bearer)"
    )
    commit_interval: Duration = Field(
        timedelta(seconds=10), description="shortest time between two commits of deliveries to disk"
    )
    takeover_after: Duration = Field(
        timedelta(seconds=60), description="silence after which a new journal replaces a node's old"
    )
    silent_after: Duration = Field(
        timedelta(minutes=2), description="silence after which a node is shown as silent"
    )
    ledger: LedgerSection = Field(LedgerSection(), description="the books")
    metrics: MetricsSection = Field(MetricsSection(), description="exported metrics")
    groups: dict[str, dict[str, tuple[str, ...]]] = Field(
        {}, description='labels of nodes: {"rack": {"r12": ["node[001-018]"]}}'
    )

    @field_validator("commit_interval", "takeover_after", "silent_after")
    @classmethod
    def _sensible(cls, value: timedelta) -> timedelta:
        if not 100 <= milliseconds(value) <= 3_600_000:
            raise ValueError("is out of range; choose between 100ms and 1h")
        return value

    @field_validator("groups")
    @classmethod
    def _readable(
        cls, value: dict[str, dict[str, tuple[str, ...]]]
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        for kind, members in value.items():
            if not kind.isidentifier() or not kind.isascii() or kind == "node":
                raise ValueError(f"{kind!r} is no label name; use letters, like rack or row")
            for patterns in members.values():
                for pattern in patterns:
                    expand(pattern)
        return value

    @property
    def ledger_url(self) -> str:
        """The ledger's database, as SQLAlchemy writes it."""
        return self.ledger.url or f"sqlite:///{self.data_dir.absolute() / 'ledger.sqlite'}"

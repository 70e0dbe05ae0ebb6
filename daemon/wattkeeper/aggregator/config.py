"""The aggregator's configuration: `/etc/wattkeeper/aggregator.toml` and its likes."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from wattkeeper.aggregator.access.config import AccessSection
from wattkeeper.aggregator.budget_config import AlertsSection, BudgetSection, check_budgets
from wattkeeper.aggregator.group_config import GroupsField, check_groups
from wattkeeper.aggregator.limit_config import LimitsSection
from wattkeeper.factors.settings import FactorsSection
from wattkeeper.settings import Address, ConfigError, Duration, Section, Settings, data_dir
from wattkeeper.tls.config import TlsServerSection
from wattkeeper.values import LogLevel, format_duration, hide_passwords, milliseconds

_DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")
_SLOTS = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 30, 60))


class LedgerSection(Section):
    """The books."""

    url: str | None = Field(
        None,
        description="sqlite:////srv/ledger.sqlite, or postgresql://user@host/database; "
        "by default a file in data_dir",
    )
    url_file: Path | None = Field(
        None, description="file that holds the url instead, for one with a password in it"
    )
    lease: Duration = Field(
        timedelta(seconds=15),
        description="silence after which another aggregator asks schedulers and settles",
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

    @field_validator("lease")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not 1 <= value.total_seconds() <= 600:
            raise ValueError("is out of range; choose between 1s and 10m")
        return value

    @field_validator("url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(_DATABASES):
            raise ValueError(
                "is no database for a ledger; write sqlite:////absolute/path/ledger.sqlite or "
                "postgresql://user@host/database"
            )
        return value

    @field_serializer("url", when_used="json")
    def _without_password(self, value: str | None) -> str | None:
        return None if value is None else hide_passwords(value)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is not None and self.url_file is not None:
            raise ValueError("url and url_file are both set; choose one")
        return self


class TelemetrySection(Section):
    """The history: power, heat and use of every meter as time series."""

    url: str | None = Field(
        None,
        description="remote write of a Prometheus-compatible engine, like "
        "http://vm:8428/api/v1/write; none keeps no history; by default a store in data_dir",
    )
    query_url: str | None = Field(
        None, description="base of the engine's query API, if it does not follow from url"
    )
    tenant: str | None = Field(None, description="tenant of the engine (X-Scope-OrgID)")
    token_file: Path | None = Field(
        None, description="bearer token for the engine, read for every request"
    )
    certificate: Path | None = Field(None, description="client certificate for the engine")
    key: Path | None = Field(None, description="its key")
    ca: Path | None = Field(None, description="authority of the engine's certificate")
    timeout: Duration = Field(
        timedelta(seconds=30), description="how long a request or a question may take"
    )
    memory: int = Field(1024, ge=128, description="MiB that the store in data_dir may use")
    threads: int = Field(2, ge=1, le=256, description="threads that it may use")

    @field_validator("timeout")
    @classmethod
    def _sensible(cls, value: timedelta) -> timedelta:
        if not 1 <= value.total_seconds() <= 600:
            raise ValueError("is out of range; choose between 1s and 10m")
        return value

    @model_validator(mode="after")
    def _of_an_engine(self) -> Self:
        given = [
            name
            for name in ("query_url", "tenant", "token_file", "certificate", "key", "ca")
            if getattr(self, name) is not None
        ]
        if given and self.url in (None, NO_HISTORY):
            raise ValueError(f"{given[0]} belongs to an engine; set url too")
        return self


NO_HISTORY = "none"
"""`telemetry.url` of an aggregator that keeps the books alone."""


class RetentionSection(Section):
    """How long the store in data_dir keeps what (an engine keeps what it is told to), and names."""

    full: Duration = Field(timedelta(days=30), description="every window")
    five_minutes: Duration = Field(timedelta(days=731), description="rows of five minutes")
    hours: Duration | None = Field(None, description="rows of an hour; by default for ever")
    identities: Duration = Field(
        timedelta(days=396), description="names of people in the ledger; then pseudonyms"
    )

    audit: Duration = Field(
        timedelta(days=396), description="who read about others, and who changed what"
    )

    @field_validator("identities", "audit")
    @classmethod
    def _long_enough(cls, value: timedelta) -> timedelta:
        if value < timedelta(days=1):
            raise ValueError("is too short; a day at least")
        return value

    @model_validator(mode="after")
    def _falling(self) -> Self:
        longest = self.hours or timedelta.max
        if not timedelta(days=1) <= self.full <= self.five_minutes <= longest:
            raise ValueError(
                "full, five_minutes and hours have to be a day and more, each as long as the one "
                "before: a coarser row answers where the finer one is gone"
            )
        return self


class MetricsSection(Section):
    """What the aggregator's own `/metrics` shows."""

    identity: Literal["account", "user", "none"] = Field(
        "account", description="who is named: accounts and owners, users too, or nobody"
    )
    max_jobs: int = Field(
        2000, ge=0, le=100_000, description="jobs with series of their own, at most"
    )
    ended_jobs_for: Duration = Field(
        timedelta(minutes=5),
        description="how long an ended job stays once its figures rest; two scrapes at least",
    )
    max_values: int = Field(
        1000, ge=0, description="accounts with series of their own, at most; the rest is other"
    )


class SlurmSection(Section):
    """A Slurm cluster: its jobs, which GPUs they were given, and its nodes."""

    enabled: bool | None = Field(
        None, description="ask Slurm; by default with rest, or where squeue and a slurm.conf are"
    )
    cluster: str = Field(
        "default", max_length=128, description="name of the cluster, as its agents have it"
    )
    interval: Duration = Field(timedelta(seconds=30), description="time between two questions")
    timeout: Duration = Field(
        timedelta(seconds=60), description="how long slurmctld or slurmdbd may take to answer"
    )
    rest: str | None = Field(
        None, description="slurmrestd: unix:/run/slurmrestd.sock, http://host:6820; else commands"
    )
    token_file: Path | None = Field(
        None, description="token for rest, read for every question; else $SLURM_JWT"
    )
    user: str | None = Field(None, description="user for rest, if it is not the token's own")
    sacct: bool = Field(
        True, description="ask the accounts for jobs that ended while nobody looked"
    )
    lookback: Duration = Field(
        timedelta(days=1), description="how far back the accounts are asked at the start"
    )
    bin: Path | None = Field(None, description="folder of squeue, scontrol, sinfo and sacct")
    conf: Path | None = Field(None, description="slurm.conf, if it is not the usual one")
    max_answer: int = Field(
        8192, ge=1, le=1 << 20, description="MiB of JSON that an answer may have"
    )

    @field_validator("interval", "timeout")
    @classmethod
    def _sensible(cls, value: timedelta) -> timedelta:
        if not 1 <= value.total_seconds() <= 3600:
            raise ValueError("is out of range; choose between 1s and 1h")
        return value

    @field_validator("rest")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        unix = parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc
        tcp = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
        if not unix and not tcp:
            raise ValueError("is no address; write unix:/run/slurmrestd.sock or http://host:6820")
        return value


class KubernetesSection(Section):
    """The cluster's pods and their owners. In a pod it needs no more than its service account."""

    enabled: bool | None = Field(
        None, description="ask Kubernetes; by default in a pod, or with url or kubeconfig"
    )
    cluster: str = Field(
        "default", max_length=128, description="name of the cluster, as its agents have it"
    )
    interval: Duration = Field(timedelta(seconds=15), description="time between two answers")
    url: str | None = Field(None, description="API server, like https://10.0.0.1:6443")
    token_file: Path | None = Field(None, description="token for url, read for every request")
    ca_file: Path | None = Field(None, description="authority of url's certificate")
    kubeconfig: Path | None = Field(None, description="instead of url; no programs in it are run")
    context: str | None = Field(None, description="context of the kubeconfig; its current one")
    user: tuple[str, ...] = Field(
        (), description="labels or annotations of pods that name a user; the first found counts"
    )
    account: tuple[str, ...] = Field(
        (), description="labels or annotations that name an account; without one, the namespace"
    )
    labels: tuple[str, ...] = Field(
        (), max_length=16, description="labels of pods to report by, 16 at most"
    )
    node_selector: str = Field(
        "", description="label selector of the nodes that agents run on; all if empty"
    )

    @field_validator("interval")
    @classmethod
    def _unhurried(cls, value: timedelta) -> timedelta:
        if not 1_000 <= milliseconds(value) <= 600_000:
            raise ValueError("is out of range; choose between 1s and 10m")
        return value

    @field_validator("url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("is no address of an API server; write https://host:6443")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is not None and self.kubeconfig is not None:
            raise ValueError("url and kubeconfig are both set; choose one")
        if self.url is None and (self.token_file is not None or self.ca_file is not None):
            raise ValueError("token_file and ca_file belong to url; set url too")
        return self


class AggregatorSettings(Settings):
    """Keep the fleet's books: take deliveries of agents, answer questions.

    Every key below may also stand in the file, or in the environment as
    WATTKEEPER_AGGREGATOR_DATA_DIR, WATTKEEPER_AGGREGATOR_LEDGER__SLOT, …

    Examples:
      wattkeeper aggregator
      wattkeeper aggregator --listen 0.0.0.0:9746 --access.tokens-file tokens.toml
      wattkeeper aggregator --config my.toml --data-dir /srv/wattkeeper
    """

    listen: Address = Field("127.0.0.1:9746", description="host:port of intake, API and metrics")
    data_dir: Path = Field(
        default_factory=lambda: data_dir("aggregator"),
        description="folder of the ledger; a local disk",
    )
    token: SecretStr | None = Field(
        None,
        description="what agents must show to deliver (Authorization: Bearer); as a flag every "
        "user of the machine sees it, so prefer the file, the environment or access.tokens_file",
    )
    log_level: LogLevel = Field("info", description="what is logged: this, and what is graver")
    commit_interval: Duration = Field(
        timedelta(seconds=10), description="shortest time between two commits of deliveries to disk"
    )
    takeover_after: Duration = Field(
        timedelta(seconds=60), description="silence after which a new journal replaces a node's old"
    )
    silent_after: Duration = Field(
        timedelta(minutes=2), description="silence after which a node is shown as silent"
    )
    access: AccessSection = Field(AccessSection(), description="who may ask, and who may not")
    ledger: LedgerSection = Field(LedgerSection(), description="the books")
    telemetry: TelemetrySection = Field(TelemetrySection(), description="the history")
    retention: RetentionSection = Field(
        RetentionSection(), description="how long history and names are kept"
    )
    metrics: MetricsSection = Field(MetricsSection(), description="exported metrics")
    slurm: SlurmSection = Field(SlurmSection(), description="jobs, their GPUs, and nodes")
    kubernetes: KubernetesSection = Field(KubernetesSection(), description="pods and their owners")
    factors: FactorsSection = Field(FactorsSection(), description="what energy costs and emits")
    groups: GroupsField = Field(
        {}, description='labels of nodes: {"rack": {"r12": ["node[001-018]"]}}'
    )

    tls_server_config: TlsServerSection = Field(
        TlsServerSection(), description="TLS, as exporters are configured"
    )
    limits: LimitsSection = Field(LimitsSection(), description="what is too much")
    budgets: dict[str, BudgetSection] = Field({}, description="limits, each under its name")
    alerts: AlertsSection = Field(AlertsSection(), description="who is told of budgets")

    @field_validator("commit_interval", "takeover_after", "silent_after")
    @classmethod
    def _sensible(cls, value: timedelta) -> timedelta:
        if not 100 <= milliseconds(value) <= 3_600_000:
            raise ValueError("is out of range; choose between 100ms and 1h")
        return value

    @field_validator("groups")
    @classmethod
    def _readable(cls, value: GroupsField) -> GroupsField:
        check_groups(value)
        return value

    @field_validator("budgets")
    @classmethod
    def _fitting(
        cls, value: dict[str, BudgetSection], info: ValidationInfo
    ) -> dict[str, BudgetSection]:
        if {"ledger", "groups"} <= info.data.keys():
            check_budgets(value, info.data["ledger"].slot, info.data["groups"])
        return value

    def ledger_url(self) -> str:
        """Return the ledger's database, as SQLAlchemy writes it. Blocks where it is in a file.

        Raises:
            ConfigError: the file cannot be read, or holds no URL.

        """
        path = self.ledger.url_file
        if path is None:
            return self.ledger.url or f"sqlite:///{self.data_dir.absolute() / 'ledger.sqlite'}"
        try:
            url = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise ConfigError(f"ledger.url_file: {path} cannot be read ({why})") from error
        if not url.startswith(_DATABASES):
            raise ConfigError(f"ledger.url_file: {path} holds no URL like postgresql://host/name")
        return url

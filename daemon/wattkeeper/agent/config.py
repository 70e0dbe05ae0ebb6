"""The agent's configuration: `/etc/wattkeeper/agent.toml` and its likes."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from wattkeeper.settings import Address, Duration, Section, Settings, data_dir
from wattkeeper.tls.config import TlsServerSection
from wattkeeper.values import LogLevel, format_duration, host_port

POINT_INTERVAL: Final = timedelta(minutes=5)
"""Distance of the points that check the books: it divides every slot that a ledger may have."""


class AggregatorSection(Section):
    """Where windows go. Without `url` the agent exports and journals only."""

    url: HttpUrl | None = Field(None, description="like http://aggregator:9746")
    token: SecretStr | None = Field(
        None,
        description="what the aggregator wants to be shown; as a flag every user of the machine "
        "sees it, so prefer token_file",
    )
    token_file: Path | None = Field(
        None, description="file that holds the token instead, read for every delivery"
    )
    ca: Path | None = Field(
        None, description="authority of the aggregator's certificate, PEM; the system's if unset"
    )
    certificate: Path | None = Field(
        None, description="certificate that this agent shows, PEM; taken anew when it changes"
    )
    key: Path | None = Field(None, description="its key, PEM; if unset, in certificate's file")
    timeout: Duration = Field(timedelta(seconds=30), description="for one delivery")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set; choose one")
        if self.key is not None and self.certificate is None:
            raise ValueError("key belongs to certificate; set certificate too")
        if self.url is not None and self.url.scheme != "https":
            for name in ("ca", "certificate"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for TLS only; write https:// in url")
        return self

    @property
    def shown(self) -> str | None:
        """The token in plain text, where it is no file."""
        return None if self.token is None else self.token.get_secret_value()


class PathSection(Section):
    """Where the kernel's trees are: a host mount, or a fixture."""

    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    cgroupfs: Path = Path("/sys/fs/cgroup")


class JournalSection(Section):
    """The durable list of windows."""

    max_bytes: int = Field(
        256 << 20, ge=1 << 20, description="beyond it the oldest windows are merged by the hour"
    )


class SlurmSection(Section):
    """How this node's Slurm jobs are seen."""

    nodename: str = Field(
        "",
        max_length=253,
        description="only the jobs of the slurmd of this name, where several run; empty: all",
    )
    in_pods: bool = Field(
        False,
        description="slurmd runs in pods: believe job folders in them (no other pod may make any)",
    )
    gpu_order: Literal["pci", "minor"] = Field(
        "pci",
        description="what Slurm's GPU indices count: PCI order, or minors (gres.conf with File=)",
    )
    epilog_grace: Duration = Field(
        timedelta(seconds=60),
        description="how long a job whose cgroup has gone keeps its GPUs without its end mark",
    )
    job_mapping_dir: Path | None = Field(
        None, description="folder of files by GPU with job ids, as dcgm-exporter reads it"
    )


class KubernetesSection(Section):
    """How this node's pods are seen to hold GPUs."""

    enabled: bool | None = Field(
        None, description="ask the kubelet which pod has which GPU; unset: where its socket is"
    )
    pod_resources: Path = Field(
        Path("/var/lib/kubelet/pod-resources/kubelet.sock"), description="the kubelet's socket"
    )
    pod_logs: Path = Field(
        Path("/var/log/pods"), description="folder of pods' logs, whose names tell pods' UIDs"
    )


class NvmlSection(Section):
    """How NVIDIA's driver is asked."""

    gpm: bool = Field(
        False,
        description="weigh MIG instances by how busy they are (Hopper or newer); it may keep users'"
        " profilers off the GPU, and idle GPUs from resting",
    )


class AgentSettings(Settings):
    """Meter this node: every GPU and CPU, and who holds it.

    Every key below may also stand in the file, or in the environment as
    WATTKEEPER_AGENT_DATA_DIR, WATTKEEPER_AGENT_AGGREGATOR__URL, …

    Examples:
      wattkeeper agent
      wattkeeper agent --aggregator.url http://aggregator:9746
      WATTKEEPER_AGENT_AGGREGATOR__URL=http://aggregator:9746 wattkeeper agent
    """

    listen: Address = Field("127.0.0.1:9745", description="host:port of /metrics")
    advertise: str = Field(
        "",
        description="host:port where Prometheus reaches this agent; its name, if it may be reached",
    )
    data_dir: Path = Field(
        default_factory=lambda: data_dir("agent"), description="folder of the journal; a local disk"
    )
    cluster: str = Field("", max_length=128, description="name of the cluster; `default` if empty")
    node: str = Field(
        default_factory=lambda: socket.gethostname().partition(".")[0],
        min_length=1,
        max_length=253,
        description="this node's name, as the scheduler knows it",
    )
    sample_interval: Duration = Field(
        timedelta(seconds=1), description="between two readings: 100ms to 60s"
    )
    window: Duration = Field(
        timedelta(seconds=10), description="length of a window; divides 5 minutes"
    )
    log_level: LogLevel = Field("info", description="what is logged: this, and what is graver")
    max_holders: int = Field(
        256, ge=1, le=4096, description="most holders that one window names; the rest is `other`"
    )
    static_power: Literal["idle", "holders"] = Field(
        "idle",
        description="who pays for power at rest of what nobody reserved: nobody, or its users",
    )
    aggregator: AggregatorSection = Field(AggregatorSection(), description="where windows go")
    tls_server_config: TlsServerSection = Field(
        TlsServerSection(), description="TLS of /metrics, as exporters are configured"
    )
    path: PathSection = Field(PathSection(), description="the kernel's trees")
    journal: JournalSection = Field(JournalSection(), description="the durable list of windows")
    nvml: NvmlSection = Field(NvmlSection(), description="how NVIDIA's driver is asked")
    slurm: SlurmSection = Field(SlurmSection(), description="how Slurm jobs are seen")
    kubernetes: KubernetesSection = Field(
        KubernetesSection(), description="how pods are seen to hold GPUs"
    )

    @field_validator("sample_interval")
    @classmethod
    def _can_be_sampled(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(seconds=60):
            raise ValueError("is out of range; choose between 100ms and 60s")
        return value

    @field_validator("window")
    @classmethod
    def _divides(cls, value: timedelta) -> timedelta:
        whole = value >= timedelta(seconds=1) and not value % timedelta(seconds=1)
        if not whole or POINT_INTERVAL % value:
            raise ValueError("must divide 5 minutes in whole seconds: 1s, 5s, 10s, 30s, 60s, …")
        return value

    @model_validator(mode="after")
    def _samples_fit(self) -> Self:
        if self.sample_interval > self.window:
            raise ValueError(
                f"sample_interval ({format_duration(self.sample_interval)}) is longer than "
                f"window ({format_duration(self.window)}); a window needs at least one sample"
            )
        return self

    @property
    def advertised(self) -> str:
        """The address for service discovery; empty while only this machine can reach it.

        It begins with https:// where the agent speaks TLS.
        """
        host, port = host_port(self.listen)
        local = host in {"127.0.0.1", "::1", "localhost"}
        address = self.advertise or ("" if local else f"{self.node}:{port}")
        if address and self.tls_server_config.on and "://" not in address:
            return f"https://{address}"
        return address

    @property
    def cluster_name(self) -> str:
        """The cluster as deliveries name it."""
        return self.cluster or "default"

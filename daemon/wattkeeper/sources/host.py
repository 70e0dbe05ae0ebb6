"""What the machine as a whole is doing: processor time, memory and load. It has no meters."""

from collections.abc import Sequence
from pathlib import Path

from wattkeeper.model.meter import MeterSpec
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.files import UnreadableError, read_text, worst

_FIX = "set path.procfs to the host's /proc"


class HostSource:
    """Processor utilization since the read before, memory and load averages from procfs."""

    name = "host"

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs
        self._ticks: tuple[int, int] | None = None
        self._gauges: tuple[Gauge, ...] = ()
        self._failed: dict[str, UnreadableError] = {}

    async def start(self) -> None:
        """Take the first count, against which the first read is measured."""
        await self.read(0.0)

    def meters(self) -> Sequence[MeterSpec]:
        """Return nothing: no energy is counted here."""
        return ()

    def gauges(self) -> Sequence[Gauge]:
        """Return utilization, memory and load as of the last read; what failed is missing."""
        return self._gauges

    def findings(self) -> Sequence[Finding]:
        """Return the state of the source, then of each file that cannot be read."""
        parts = [Finding(f"host/{n}", e.state, e.reason, _FIX) for n, e in self._failed.items()]
        state = worst([part.state for part in parts]) if parts else State.OK
        detail = "; ".join(part.detail for part in parts) or "processors, memory and load are read"
        return [Finding(self.name, state, detail, _FIX if parts else ""), *parts]

    async def read(self, deadline_s: float) -> Sequence[Reading]:  # noqa: ARG002 - see below
        """Refresh the gauges; procfs answers in microseconds, so the deadline is not needed."""
        gauges: list[Gauge] = []
        self._failed = {}
        for file, view in (("stat", self._cpu), ("meminfo", _memory), ("loadavg", _load)):
            try:
                gauges += view(read_text(self._procfs / file))
            except UnreadableError as error:
                self._failed[file] = error
            except (ValueError, KeyError, IndexError):
                reason = f"{self._procfs / file}: not in the form that Linux writes"
                self._failed[file] = UnreadableError(State.FAILING, reason)
        self._gauges = tuple(gauges)
        return ()

    async def close(self) -> None:
        """Nothing is held open."""

    def _cpu(self, text: str) -> list[Gauge]:
        label, *fields = text.splitlines()[0].split()
        if label != "cpu":
            raise ValueError(label)
        # user nice system idle iowait irq softirq steal; guest time is inside user already.
        ticks = [int(field) for field in fields[:8]]
        whole, idle = sum(ticks), ticks[3] + ticks[4]
        before, self._ticks = self._ticks, (whole, idle)
        if before is None or whole <= before[0]:
            return []
        # iowait can fall (a CPU went offline): then the ratio is held to what is possible.
        busy = 1 - (idle - before[1]) / (whole - before[0])
        return [Gauge("cpu_utilization_ratio", (), min(1.0, max(0.0, busy)))]


def _memory(text: str) -> list[Gauge]:
    kib = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            kib[name] = int(rest.split()[0])
    used = kib["MemTotal"] - kib["MemAvailable"]
    return [
        Gauge("host_memory_used_bytes", (), used * 1024),
        Gauge("host_memory_total_bytes", (), kib["MemTotal"] * 1024),
    ]


def _load(text: str) -> list[Gauge]:
    one, five, fifteen = (float(value) for value in text.split()[:3])
    return [
        Gauge("host_load_average", (("minutes", minutes),), value)
        for minutes, value in (("1", one), ("5", five), ("15", fifteen))
    ]

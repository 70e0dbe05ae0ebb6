"""Temperatures of the processors, Grace's power sockets and ACPI power meters, through hwmon."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.model.clock import NS_PER_S, Clock, SystemClock
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Method
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.files import UnreadableError, names, read_text, read_whole, worst
from wattkeeper.sources.hwmon_temperature import Thermometer, thermometers
from wattkeeper.sources.slow import SlowReader

_SOCKET = re.compile(r"(?P<scope>Module|Grace|CPU|SysIO) Power Socket (?P<socket>\d+)")
_POWER = ("power1_average", "power1_input")
_MOST_UW = 10**11
"""100 kW: more is a broken meter, not a host."""
HOST_LIMIT_MW = 50_000_000
"""No single host draws more than 50 kW."""
GRACE_LIMIT_MW = 1_000_000
"""A Grace superchip of two is specified for 500 W."""
_RESCAN_NS = 60 * NS_PER_S
_FIX = {
    State.DENIED: "let the agent read the file: chmod g+r and its group, or CAP_DAC_READ_SEARCH",
    State.FAILING: "see dmesg for the hwmon driver; compare with the BMC's own figure",
    State.STALE: "the firmware hangs: update it, or unload the acpi_power_meter module",
    State.ABSENT: "load the driver: coretemp, k10temp or acpi_power_meter",
}


@dataclass(frozen=True, slots=True)
class _PowerMeter:
    """One file of microwatts that becomes a meter."""

    file: Path
    spec: MeterSpec
    reader: SlowReader[tuple[int, int]]

    @property
    def meter(self) -> str:
        return self.spec.info.name


class HwmonSource:
    """Power meters are INTEGRATED from power; temperatures are gauges.

    Grace's sockets nest: Module ⊃ Grace ⊃ CPU, SysIO. Grace is booked (CPU where there is no
    Grace), Module never, since it holds the GPU. `module_metered` says whether a GPU's own
    counter covers the whole module (GH200, GB200): then no socket is booked at all.
    """

    name = "hwmon"

    def __init__(
        self,
        sysfs: Path,
        clock: Clock | None = None,
        module_metered: Callable[[], bool] = lambda: False,
    ) -> None:
        self._root = sysfs / "class" / "hwmon"
        self._clock = clock or SystemClock()
        self._module_metered = module_metered
        self._power: dict[str, _PowerMeter] = {}
        self._thermometers: list[Thermometer] = []
        self._states: dict[str, UnreadableError | None] = {}
        self._scan_failed: UnreadableError | None = None
        self._gauges: tuple[Gauge, ...] = ()
        self._scanned_ns = 0

    async def start(self) -> None:
        """Discover chips and take the first temperatures."""
        self._scan()
        self._read_temperatures()

    def meters(self) -> Sequence[MeterSpec]:
        """Return the power meters to book, also one that cannot be read."""
        return [power.spec for power in self._booked()]

    def gauges(self) -> Sequence[Gauge]:
        """Return the temperatures as of the last read, in degrees Celsius."""
        return self._gauges

    def findings(self) -> Sequence[Finding]:
        """Return the source's state, then that of each meter and thermometer."""
        parts = [self._finding(power.meter, str(power.file)) for power in self._booked()]
        parts += [self._finding(t.subject, str(t.file)) for t in self._thermometers]
        if len(self._booked()) < len(self._power):
            detail = "a GPU's counter covers the whole module: Grace's own sensors are not booked"
            parts.append(Finding("hwmon/grace", State.OK, detail))
        return [self._overall(parts), *parts]

    async def read(self, deadline_s: float) -> Sequence[Reading]:
        """Read temperatures at once and power meters in their threads, within `deadline_s`."""
        if self._clock.boot_ns() - self._scanned_ns >= _RESCAN_NS:
            self._scan()
        self._read_temperatures()
        answers = await asyncio.gather(
            *(self._read_power(power, deadline_s) for power in self._booked())
        )
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        """End the threads; one that hangs is abandoned."""
        for power in self._power.values():
            power.reader.close()
        self._power = {}

    def _booked(self) -> list[_PowerMeter]:
        covered = self._module_metered()
        return [
            power
            for power in self._power.values()
            if not (covered and power.spec.info.component is Component.CPU)
        ]

    async def _read_power(self, power: _PowerMeter, deadline_s: float) -> Reading | None:
        try:
            microwatts, boot_ns = await power.reader.read(deadline_s)
        except UnreadableError as error:
            self._states[power.meter] = error
            return None
        self._states[power.meter] = None
        return Reading(power.meter, boot_ns, power_mw=round(microwatts / 1000))

    def _read_temperatures(self) -> None:
        gauges = []
        for thermometer in self._thermometers:
            try:
                gauges.append(thermometer.read())
            except UnreadableError as error:
                self._states[thermometer.subject] = error
            else:
                self._states[thermometer.subject] = None
        self._gauges = tuple(gauges)

    def _scan(self) -> None:
        self._scanned_ns = self._clock.boot_ns()
        self._scan_failed = None
        try:
            chips = sorted(names(self._root), key=lambda entry: (len(entry), entry))
        except UnreadableError as error:
            self._scan_failed = error
            return
        folders = [self._root / chip for chip in chips]
        self._thermometers = thermometers(folders)
        for info, file, limit_mw in _power_meters(folders):
            known = self._power.get(info.name)
            if known is not None and known.file == file:
                continue
            if known is not None:
                known.reader.close()  # hwmon was numbered anew: the meter is at another path
            spec = MeterSpec(info, method=Method.INTEGRATED, limit_mw=limit_mw)
            self._power[info.name] = _PowerMeter(file, spec, self._reader(file))

    def _reader(self, file: Path) -> SlowReader[tuple[int, int]]:
        def read() -> tuple[int, int]:
            microwatts = read_whole(file, _MOST_UW)
            if microwatts == 0:
                raise UnreadableError(State.FAILING, f"{file}: 0 W from a machine that runs")
            return microwatts, self._clock.boot_ns()

        return SlowReader(read, str(file))

    def _finding(self, subject: str, seen: str) -> Finding:
        error = self._states.get(subject)
        if error is None:
            return Finding(subject, State.OK, seen)
        return Finding(subject, error.state, error.reason, _FIX[error.state])

    def _overall(self, parts: Sequence[Finding]) -> Finding:
        failed = self._scan_failed
        if failed is not None and failed.state is not State.ABSENT:
            return Finding(self.name, failed.state, failed.reason, _FIX[failed.state])
        if not parts:
            detail = f"no processor temperature and no power meter in {self._root}"
            return Finding(self.name, State.ABSENT, detail, _FIX[State.ABSENT])
        state = worst([part.state for part in parts])
        good = sum(part.state is State.OK for part in parts)
        fix = next((part.fix for part in parts if part.state is state), "")
        return Finding(self.name, state, f"{good} of {len(parts)} sensors answer", fix)


def _text(chip: Path, name: str) -> str | None:
    """Read an attribute of a chip: in its own folder or, with older drivers, its device's."""
    for folder in (chip, chip / "device"):
        try:
            return read_text(folder / name)
        except UnreadableError:
            continue
    return None


def _power_file(chip: Path) -> Path | None:
    for folder in (chip, chip / "device"):
        for name in _POWER:
            if (folder / name).exists():
                return folder / name
    return None


def _power_meters(chips: Sequence[Path]) -> Iterator[tuple[MeterInfo, Path, int]]:
    """Yield (info, file, limit in mW) of the sensors to book, one level of each Grace socket."""
    sockets: dict[str, dict[str, Path]] = {}
    hosts: list[tuple[str, Path]] = []
    for chip in chips:
        if _text(chip, "name") != "power_meter":
            continue
        file = _power_file(chip)
        if file is None:
            continue
        socket = _SOCKET.fullmatch(_text(chip, "power1_oem_info") or "")
        if socket:
            sockets.setdefault(socket["socket"], {})[socket["scope"]] = file
        else:
            hosts.append(((chip / "device").resolve().name, file))
    for socket_id, scopes in sorted(sockets.items()):
        scope = next((scope for scope in ("Grace", "CPU") if scope in scopes), None)
        if scope is not None:
            labels = {"socket": socket_id, "domain": "package", "scope": scope.lower()}
            info = MeterInfo(f"cpu/{socket_id}/package", Component.CPU, "hwmon", labels)
            yield info, scopes[scope], GRACE_LIMIT_MW
    for place, (device, file) in enumerate(sorted(hosts)):
        suffix = "" if place == 0 else f"/{device}"
        labels = {"device": device}
        info = MeterInfo(f"host/power_meter{suffix}", Component.HOST, "hwmon", labels)
        yield info, file, HOST_LIMIT_MW

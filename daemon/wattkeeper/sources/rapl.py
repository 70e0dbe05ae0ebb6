"""Intel and AMD processors' own energy counters, through the kernel's powercap tree."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.model.clock import NS_PER_S, Clock, SystemClock
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.files import UnreadableError, names, read_text, read_whole, worst

_ZONE = re.compile(r"intel-rapl:(?P<top>\d+)(?::(?P<sub>\d+))?")
_MMIO = re.compile(r"intel-rapl-mmio:\d+")
_PACKAGE = re.compile(r"package-(?P<socket>\d+)(?:-die-(?P<die>\d+))?")
_LIMITS = re.compile(r"constraint_\d+_(?:max_power|power_limit)_uw")

_MOST_UJ = 2**63 - 1
"""What the kernel can hold; stands in where a zone does not say its range."""
_MOST_UW = 10**10
"""10 kW. Firmware that writes more into a limit means `unlimited`."""
LIMIT_MW = {"package": 1_000_000, "dram": 400_000}
"""Bounds where a zone names no limit: 1 kW a package, 400 W its memory, twice today's largest."""
LEAST_LIMIT_MW = 100_000
"""A cap may be set below what the processor draws; only more than this tells a jump."""
_RESCAN_NS = 60 * NS_PER_S

_FIX_DENIED = (
    "energy_uj is 0400 since CVE-2020-8694: give the agent CAP_DAC_READ_SEARCH (systemd: "
    "AmbientCapabilities=CAP_DAC_READ_SEARCH and CapabilityBoundingSet=CAP_DAC_READ_SEARCH), or "
    'add the udev rule SUBSYSTEM=="powercap", ACTION=="add", '
    "RUN+=\"/bin/sh -c 'chgrp wattkeeper /sys%p/energy_uj && chmod g+r /sys%p/energy_uj'\""
)
_FIX_ABSENT = "modprobe intel_rapl_msr; most virtual machines and old kernels have no RAPL"
_FIX_FAILING = "see dmesg for powercap or rapl; reload intel_rapl_msr"


@dataclass(frozen=True, slots=True)
class _Zone:
    folder: Path
    spec: MeterSpec
    most_uj: int

    @property
    def meter(self) -> str:
        return self.spec.info.name


class RaplSource:
    """Package and memory energy of each socket, in microjoules as the kernel counts them.

    Core and uncore are inside the package and psys holds the package, so only package and dram
    are metered; `intel-rapl-mmio` shows the same packages once more and is left out. `wrap_uj` is
    `max_energy_range_uj`, the counter's greatest value: at a wrap one hardware unit (61 µJ in
    262 kJ) may be missing. Power is left to whoever reads twice.
    """

    name = "rapl"

    def __init__(
        self,
        sysfs: Path,
        clock: Clock | None = None,
        module_metered: Callable[[], bool] = lambda: False,
    ) -> None:
        self._module_metered = module_metered
        self._powercap = sysfs / "class" / "powercap"
        self._clock = clock or SystemClock()
        self._zones: list[_Zone] = []
        self._left_out: list[Finding] = []
        self._states: dict[str, UnreadableError | None] = {}
        self._scan_failed: UnreadableError | None = None
        self._scanned_ns = 0

    async def start(self) -> None:
        """Discover the zones."""
        self._scan()
        self._read_zones()

    def meters(self) -> Sequence[MeterSpec]:
        """Return every package and dram zone to book, also one that cannot be read."""
        return [zone.spec for zone in self._booked()]

    def gauges(self) -> Sequence[Gauge]:
        """Return nothing: all that RAPL says belongs to a meter."""
        return ()

    def findings(self) -> Sequence[Finding]:
        """Return the source's state, then each zone's, then what was left out and why."""
        zones = [self._zone_finding(zone) for zone in self._booked()]
        if self._zones and not zones:
            detail = "a GPU's counter covers its whole module: the processors are in it"
            return [Finding(self.name, State.OK, detail)]
        return [self._overall(zones), *zones, *self._left_out]

    async def read(self, deadline_s: float) -> Sequence[Reading]:  # noqa: ARG002 - see below
        """Read every zone; sysfs answers in microseconds, so the deadline is not needed."""
        if self._clock.boot_ns() - self._scanned_ns >= _RESCAN_NS:
            self._scan()
        return self._read_zones()

    async def close(self) -> None:
        """Nothing is held open."""

    def _booked(self) -> Sequence[_Zone]:
        return [] if self._module_metered() else self._zones

    def _read_zones(self) -> list[Reading]:
        readings = []
        for zone in self._booked():
            try:
                energy = read_whole(zone.folder / "energy_uj", zone.most_uj)
            except UnreadableError as error:
                self._states[zone.meter] = error
                continue
            self._states[zone.meter] = None
            readings.append(Reading(zone.meter, self._clock.boot_ns(), energy_uj=energy))
        return readings

    def _scan(self) -> None:
        self._scanned_ns = self._clock.boot_ns()
        try:
            entries = names(self._powercap)
        except UnreadableError as error:
            self._scan_failed = error
            return
        self._scan_failed = None
        found: dict[str, _Zone] = {}
        self._left_out = _mmio(entries)
        packages: dict[str, str] = {}
        for match in sorted(filter(None, map(_ZONE.fullmatch, entries)), key=_order):
            self._take(match, packages, found)
        # A zone that vanished from the tree stays, as absent: its meter is still expected.
        self._zones = list({z.meter: z for z in [*self._zones, *found.values()]}.values())

    def _take(
        self, match: re.Match[str], packages: dict[str, str], found: dict[str, _Zone]
    ) -> None:
        folder = self._powercap / match[0]
        try:
            zone_name = read_text(folder / "name")
        except UnreadableError as error:
            self._left_out.append(Finding(match[0], error.state, error.reason, _FIX_FAILING))
            return
        package = _PACKAGE.fullmatch(zone_name)
        if package and match["sub"] is None:
            socket = package["socket"] + (f".{package['die']}" if package["die"] else "")
            packages[match["top"]] = socket
            domain = "package"
        elif zone_name == "dram" and match["top"] in packages:
            socket, domain = packages[match["top"]], "dram"
        else:
            if zone_name == "psys":
                detail = f"{match[0]} psys holds the packages: not booked, or they count twice"
                self._left_out.append(Finding("rapl/psys", State.OK, detail))
            return
        zone = _zone(folder, socket, domain)
        if zone.meter in found:
            detail = f"{match[0]} is {zone.meter} once more: not booked"
            self._left_out.append(Finding(f"rapl/{match[0]}", State.OK, detail))
            return
        found[zone.meter] = zone

    def _zone_finding(self, zone: _Zone) -> Finding:
        error = self._states.get(zone.meter)
        if error is None:
            return Finding(zone.meter, State.OK, f"{zone.folder.name}/energy_uj")
        fix = {State.DENIED: _FIX_DENIED, State.ABSENT: _FIX_ABSENT}.get(error.state, _FIX_FAILING)
        return Finding(zone.meter, error.state, error.reason, fix)

    def _overall(self, zones: Sequence[Finding]) -> Finding:
        if not zones:
            if self._scan_failed is not None and self._scan_failed.state is not State.ABSENT:
                failed = self._scan_failed
                return Finding(self.name, failed.state, failed.reason, _FIX_FAILING)
            detail = f"no intel-rapl package zone in {self._powercap}"
            return Finding(self.name, State.ABSENT, detail, _FIX_ABSENT)
        state = worst([zone.state for zone in zones])
        good = sum(zone.state is State.OK for zone in zones)
        fix = next((zone.fix for zone in zones if zone.state is state), "")
        return Finding(self.name, state, f"{good} of {len(zones)} zones answer", fix)


def _order(match: re.Match[str]) -> tuple[int, int]:
    return int(match["top"]), int(match["sub"] or -1)


def _mmio(entries: Sequence[str]) -> list[Finding]:
    twins = [entry for entry in entries if _MMIO.fullmatch(entry)]
    if not twins:
        return []
    detail = f"{', '.join(twins)}: the packages once more, not booked"
    return [Finding("rapl/mmio", State.OK, detail)]


def _zone(folder: Path, socket: str, domain: str) -> _Zone:
    component = Component.CPU if domain == "package" else Component.DRAM
    labels = {"socket": socket, "domain": domain}
    info = MeterInfo(f"cpu/{socket}/{domain}", component, "rapl", labels)
    try:
        wrap = read_whole(folder / "max_energy_range_uj", _MOST_UJ) or None
    except UnreadableError:
        # Without its range a wrap cannot be told from a reset: the sampler opens a new epoch.
        wrap = None
    spec = MeterSpec(info, wrap_uj=wrap, limit_mw=_limit_mw(folder, domain))
    return _Zone(folder, spec, wrap or _MOST_UJ)


def _limit_mw(folder: Path, domain: str) -> int:
    limits = []
    try:
        files = [entry for entry in names(folder) if _LIMITS.fullmatch(entry)]
    except UnreadableError:
        return LIMIT_MW[domain]
    for entry in files:
        try:
            limits.append(read_whole(folder / entry, _MOST_UW) // 1000)
        except UnreadableError:
            continue  # a limit that says nothing leaves the others, or the bound
    declared = max(limits, default=0)
    return max(declared, LEAST_LIMIT_MW) if declared else LIMIT_MW[domain]

"""AMD GPUs through hwmon and sysfs, where amdsmi does not stand: power, integrated."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.model.clock import NS_PER_S, Clock, SystemClock
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Method, Partition
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources import amd_sysfs
from wattkeeper.sources.files import UnreadableError, names, read_whole, text_if_any, worst
from wattkeeper.sources.slow import SlowReader

_POWER = ("power1_average", "power1_input")
_MOST_UW = 10**10
_MOST = 10**15
_RESCAN_NS = 60 * NS_PER_S
_PPM = 1_000_000
_SECOND_DIE = "the other die of its board counts for both"
# Called as amdsmi's, which are called as NVIDIA's.
_SENSORS = {"edge": "gpu", "junction": "hotspot", "mem": "memory"}
_CLOCKS = {"sclk": "sm", "mclk": "memory"}
_FIX = {
    State.DENIED: "let the agent read the file: chmod g+r and its group, or run it as root",
    State.FAILING: "look for amdgpu messages in the kernel log",
    State.STALE: "look for amdgpu messages in the kernel log",
    State.ABSENT: "look for amdgpu messages in the kernel log",
}


@dataclass(frozen=True, slots=True)
class _Gpu:
    """A GPU with a power sensor: its hwmon folder, its PCI device, and what is read of it."""

    chip: Path
    spec: MeterSpec
    reader: SlowReader[Reading]

    @property
    def meter(self) -> str:
        return self.spec.info.name


class AmdHwmonSource:
    """A `Source` that meters AMD GPUs while `stands_in` says that nobody else does.

    Meters are called as `AmdSource` calls them, so that a GPU keeps its meter when amdsmi comes.
    What shares the power of another is not metered: the second die of an MI250X, and a processor
    with a GPU in it, whose package RAPL counts.
    """

    name = "amdgpu"

    def __init__(
        self, sysfs: Path, stands_in: Callable[[], bool], clock: Clock | None = None
    ) -> None:
        self._sysfs = sysfs
        self._stands_in = stands_in
        self._clock = clock or SystemClock()
        self._gpus: dict[str, _Gpu] = {}
        self._left_out: list[Finding] = []
        self._states: dict[str, UnreadableError | None] = {}
        self._scanned_ns = 0

    async def start(self) -> None:
        """Discover the GPUs."""
        self._scan()

    def meters(self) -> Sequence[MeterSpec]:
        """Return the GPUs that are metered here."""
        return [gpu.spec for gpu in self._metered()]

    def partitions(self) -> Mapping[str, Partition]:
        """Return the dies that share a meter by UUID, each an equal part."""
        found = {}
        for gpu in self._metered():
            dies = gpu.spec.info.labels.get("dies")
            addresses = [gpu.spec.info.labels["pci_bus_id"], *dies.split(",")] if dies else []
            for number, address in enumerate(addresses):
                uuid, part_ppm = amd_sysfs.identity(self._sysfs, address), _PPM // len(addresses)
                found[uuid] = Partition(uuid, gpu.meter, number, part_ppm, part_ppm)
        return found

    def gauges(self) -> Sequence[Gauge]:
        """Return nothing: all live values belong to a GPU."""
        return ()

    def findings(self) -> Sequence[Finding]:
        """Return the state of the source and of each GPU, nothing while it does not stand in."""
        if not self._stands_in():
            return []
        parts = [self._finding(gpu) for gpu in self._gpus.values()]
        return [self._overall(parts), *parts, *self._left_out]

    async def read(self, deadline_s: float) -> Sequence[Reading]:
        """Read every GPU in its thread, within `deadline_s`."""
        if self._clock.boot_ns() - self._scanned_ns >= _RESCAN_NS:
            self._scan()
        answers = await asyncio.gather(*(self._read(gpu, deadline_s) for gpu in self._metered()))
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        """End the threads; one that hangs is abandoned."""
        for gpu in self._gpus.values():
            gpu.reader.close()
        self._gpus = {}

    def _metered(self) -> list[_Gpu]:
        return [*self._gpus.values()] if self._stands_in() else []

    async def _read(self, gpu: _Gpu, deadline_s: float) -> Reading | None:
        try:
            reading = await gpu.reader.read(deadline_s)
        except UnreadableError as error:
            self._states[gpu.meter] = error
            return None
        self._states[gpu.meter] = None
        return reading

    def _scan(self) -> None:
        self._scanned_ns = self._clock.boot_ns()
        self._left_out = []
        found: list[tuple[str, Path, list[str]]] = []
        for address, chip in sorted(self._chips()):
            reason = _not_metered(chip)
            if not reason:
                found.append((address, chip, []))
                continue
            name = f"gpu/{amd_sysfs.identity(self._sysfs, address)}"
            self._left_out.append(Finding(name, State.OK, f"{address}: {reason}"))
            if reason == _SECOND_DIE and found:
                found[-1][2].append(address)
        for ordinal, (address, chip, dies) in enumerate(found):
            self._take(address, chip, dies, ordinal)

    def _take(self, address: str, chip: Path, dies: Sequence[str], ordinal: int) -> None:
        name = f"gpu/{amd_sysfs.identity(self._sysfs, address)}"
        known = self._gpus.get(name)
        if known is not None and known.chip == chip:
            return
        if known is not None:
            known.reader.close()  # the driver was loaded anew: hwmon is numbered otherwise
        spec = self._spec(name, address, chip, {"gpu": str(ordinal), "dies": ",".join(dies)})
        self._gpus[name] = _Gpu(chip, spec, self._reader(name, address, chip))

    def _chips(self) -> Iterator[tuple[str, Path]]:
        root = self._sysfs / "class/hwmon"
        try:
            chips = names(root)
        except UnreadableError:
            return
        for chip in chips:
            if text_if_any(root / chip / "name") == "amdgpu":
                yield (root / chip / "device").resolve().name, root / chip

    def _spec(self, name: str, address: str, chip: Path, more: dict[str, str]) -> MeterSpec:
        device = self._sysfs / "bus/pci/devices" / address
        minor = amd_sysfs.minor(self._sysfs, address)
        labels = {
            **more,
            "uuid": name.removeprefix("gpu/"),
            "pci_bus_id": address,
            "model": text_if_any(device / "product_name") or "AMD GPU",
            "driver": text_if_any(self._sysfs / "module/amdgpu/version"),
            "vendor": "amd",
            "scope": "module" if amd_sysfs.counts_processors(self._sysfs, address) else "gpu",
            "serial": text_if_any(device / "serial_number"),
            "minor": "" if minor is None else str(minor),
        }
        kept = {key: value for key, value in labels.items() if value or key == "driver"}
        most = _number(chip / "power1_cap_max")
        return MeterSpec(
            MeterInfo(name, Component.GPU, self.name, kept),
            method=Method.INTEGRATED,
            limit_mw=most // 1000 if most else None,
        )

    def _reader(self, meter: str, address: str, chip: Path) -> SlowReader[Reading]:
        device = self._sysfs / "bus/pci/devices" / address
        uuid = meter.removeprefix("gpu/")
        power = next(chip / name for name in _POWER if (chip / name).exists())

        def read() -> Reading:
            microwatts = read_whole(power, _MOST_UW)
            celsius = dict(_labelled(chip, "temp", _SENSORS))
            hertz = dict(_labelled(chip, "freq", _CLOCKS))
            busy = _number(device / "gpu_busy_percent")
            cap = _number(chip / "power1_cap")
            if "hotspot" in celsius:
                celsius.setdefault("gpu", celsius["hotspot"])
            shader = hertz.get("sm")
            return Reading(
                meter,
                self._clock.boot_ns(),
                power_mw=round(microwatts / 1000),
                power_limit_mw=None if cap is None else cap // 1000,
                temperature_mc=celsius.get("gpu"),
                utilization_ppm=None if busy is None else busy * 10_000,
                memory_used_bytes=_number(device / "mem_info_vram_used"),
                clock_khz=None if shader is None else shader // 1000,
                gauges=tuple(_gauges(uuid, device, celsius, hertz, busy)),
            )

        return SlowReader(read, str(power))

    def _finding(self, gpu: _Gpu) -> Finding:
        error = self._states.get(gpu.meter)
        if error is not None:
            return Finding(gpu.meter, error.state, error.reason, _FIX[error.state])
        labels = gpu.spec.info.labels
        detail = f"{labels['model']} at {labels['pci_bus_id']}, power of {gpu.chip} is integrated"
        return Finding(gpu.meter, State.OK, detail)

    def _overall(self, parts: Sequence[Finding]) -> Finding:
        if not parts:
            detail = "no AMD GPU with a power sensor"
            return Finding(self.name, State.ABSENT, detail, "load the driver: modprobe amdgpu")
        state = worst([part.state for part in parts])
        good = sum(part.state is State.OK for part in parts)
        fix = next((part.fix for part in parts if part.state is state), "")
        detail = f"hwmon stands in for amdsmi: {good} of {len(parts)} GPUs answer"
        return Finding(self.name, state, detail, fix)


def _not_metered(chip: Path) -> str:
    """Return why a GPU has no meter of its own here, empty if it has one."""
    if not any((chip / name).exists() for name in _POWER):
        return "no power sensor"
    cap = _number(chip / "power1_cap")
    if cap is None:  # the driver shows no limit for processors with a GPU in them
        return "it draws from its processor's package, which RAPL counts"
    return "" if cap else _SECOND_DIE


def _labelled(chip: Path, kind: str, wanted: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Yield (our name, value) of the chip's temperatures (m°C) or clocks (Hz)."""
    for number in range(1, len(_SENSORS) + 1):
        label = text_if_any(chip / f"{kind}{number}_label")
        value = _number(chip / f"{kind}{number}_input") if label in wanted else None
        if value is not None:
            yield wanted[label], value


def _gauges(
    uuid: str, device: Path, celsius: dict[str, int], hertz: dict[str, int], busy: int | None
) -> Iterator[Gauge]:
    for sensor, value in celsius.items():
        labels = (("uuid", uuid), ("sensor", sensor))
        yield Gauge("gpu_temperature_celsius", labels, value / 1000)
    for clock, value in hertz.items():
        yield Gauge("gpu_clock_hertz", (("uuid", uuid), ("clock", clock)), value)
    for engine, percent in (("gpu", busy), ("memory", _number(device / "mem_busy_percent"))):
        if percent is not None:
            labels = (("uuid", uuid), ("engine", engine))
            yield Gauge("gpu_utilization_ratio", labels, percent / 100)
    total = _number(device / "mem_info_vram_total")
    if total is not None:
        yield Gauge("gpu_memory_total_bytes", (("uuid", uuid),), total)


def _number(file: Path) -> int | None:
    try:
        return read_whole(file, _MOST)
    except UnreadableError:
        return None

"""A simulated node: eight GPUs, two sockets, a host power meter, and what it says when asked."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Method
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.simulation.chip import Chip, ChipKind, Demand
from wattkeeper.simulation.clock import VirtualClock
from wattkeeper.simulation.counter import Counter, CounterKind
from wattkeeper.simulation.waveform import Pattern

SYSTEM = "system"
"""The holder of the machine's own processes on its sockets."""
SYSTEM_MCORES = 1_400
"""Thousandths of a core that they keep busy: microseconds of CPU time in a millisecond."""
CORES = 64
"""Cores of a socket."""
CORE_MW = 2_200
DRAM_MW = 260
"""What a socket and its memory draw above idle for each busy core."""

GPU = ChipKind(idle_mw=72_000, peak_mw=720_000, limit_mw=700_000, rise_mc_per_w=70)
PACKAGE = ChipKind(idle_mw=95_000, peak_mw=380_000, limit_mw=360_000, rise_mc_per_w=120)
DRAM = ChipKind(idle_mw=14_000, peak_mw=60_000, limit_mw=60_000, rise_mc_per_w=200)
GPU_MEMORY = 80 << 30
_BUSY_KHZ, _REST_KHZ = 1_980_000, 345_000
RAPL_WRAP_UJ = 65_532_610_987
"""A package that draws 180 W wraps every six minutes."""
BASE_MW = 210_000
"""Fans, network and board of a host."""
SUPPLY_LOSS = 20
"""Power supplies lose one part in twenty of what they deliver."""


Shown = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(slots=True)
class Device:
    """A chip, the counter over it, and the meter that it is to the agent, since `since_ms`."""

    spec: MeterSpec
    chip: Chip
    counter: Counter
    since_ms: int
    answers: bool = True
    limit_mw: int | None = None
    shown: Shown = ()
    """Names and labels of the live values that it says beside its reading."""

    @property
    def name(self) -> str:
        """Name of its meter."""
        return self.spec.info.name

    def read(self, at_ms: int, boot_ns: int) -> Reading:
        """Return what the device says at `at_ms`."""
        chip = self.chip
        energy = self.counter.read_uj(at_ms)
        if self.limit_mw is None:
            return Reading(self.name, boot_ns, energy)
        taken = self.counter.updated_ms(at_ms)
        busy, temperature_mc = chip.utilization_ppm(taken), chip.temperature_mc(taken)
        clock_khz, throttled_ms = _BUSY_KHZ if busy else _REST_KHZ, chip.throttled.energy_uj(taken)
        slowed_ms = chip.slowed.energy_uj(taken)
        values = (
            temperature_mc / 1000,
            busy / 1e6,
            clock_khz * 1000,
            GPU_MEMORY,
            slowed_ms / 1000,
            (throttled_ms - slowed_ms) / 1000,
        )
        return Reading(
            self.name,
            boot_ns,
            energy,
            power_mw=chip.wave.power_mw(taken),
            power_limit_mw=self.limit_mw,
            temperature_mc=temperature_mc,
            utilization_ppm=busy,
            memory_used_bytes=chip.memory_bytes,
            clock_khz=clock_khz,
            throttled_ms=throttled_ms,
            gauges=tuple(
                Gauge(name, labels, value)
                for (name, labels), value in zip(self.shown, values, strict=True)
            ),
        )


class Machine:
    """The hardware of one node, and the boot and driver loads it has been through."""

    def __init__(self, name: str, gpus: int, clock: VirtualClock, at_ms: int, seed: int) -> None:
        self.name = name
        self.clock = clock
        self._random = Random(f"{seed}/{name}")
        self.boot = self._new_id()
        load = self._new_id()
        self.gpus = [self._gpu(index, at_ms, load) for index in range(gpus)]
        self.sockets = [self._socket_domain(socket, "package", at_ms) for socket in range(2)]
        self.drams = [self._socket_domain(socket, "dram", at_ms) for socket in range(2)]
        self.devices = [*self.gpus, *self.sockets, *self.drams]
        for domains, core_mw in ((self.sockets, CORE_MW), (self.drams, DRAM_MW)):
            power = Pattern((1, core_mw * SYSTEM_MCORES // 1000 // len(domains)))
            for domain in domains:
                domain.chip.attach(at_ms, SYSTEM, Demand(power, reserved_ppm=0, exclusive=False))
        info = MeterInfo("host/dcmi", Component.HOST, "simulated", {"vendor": "simulated"})
        self._host = MeterSpec(info, Method.INTEGRATED, load=self.boot)

    def meters(self) -> Sequence[MeterSpec]:
        """The node's meters, the host's last."""
        return [*(device.spec for device in self.devices), self._host]

    def readings(self) -> Sequence[Reading]:
        """What every meter says now; a device that does not answer is left out."""
        boot_ns = self.clock.boot_ns()
        at_ms = self.clock.true_ms()
        readings = [device.read(at_ms, boot_ns) for device in self.devices if device.answers]
        readings.append(Reading("host/dcmi", boot_ns, power_mw=self.power_mw(at_ms)))
        return readings

    def gauges(self) -> Sequence[Gauge]:
        """The host's live values."""
        at_ms = self.clock.true_ms()
        busy = sum(socket.chip.utilization_ppm(at_ms) for socket in self.sockets)
        return [Gauge("cpu_utilization_ratio", (), busy / 1e6 / len(self.sockets))]

    def power_mw(self, at_ms: int) -> int:
        """What the whole host draws at `at_ms`, fans and losses included."""
        components = sum(device.chip.wave.power_mw(at_ms) for device in self.devices)
        return BASE_MW + components + components // SUPPLY_LOSS

    def reload_driver(self, at_ms: int, gpu: int, *, past_mj: int = 0) -> None:
        """Load the GPU driver anew: the counter begins again, the load is another one.

        `past_mj`: where the counter stands right away, to go past its old value unseen.
        """
        device = self.gpus[gpu]
        device.counter.reset(at_ms, past_mj * 1000)
        device.spec = _reloaded(device.spec, self._new_id())

    def reboot(self, at_ms: int) -> None:
        """Boot: another boot id, every counter from 0, the driver loaded anew."""
        self.clock.reboot()
        self.boot = self._new_id()
        load = self._new_id()
        for device in self.devices:
            device.counter.reset(at_ms)
        for device in self.gpus:
            device.spec = _reloaded(device.spec, load)
        for device in (*self.sockets, *self.drams):
            device.spec = _reloaded(device.spec, self.boot)
        self._host = _reloaded(self._host, self.boot)

    def forget_before(self, at_ms: int) -> None:
        """Free what was before `at_ms`; nobody asks about it any more."""
        for device in self.devices:
            device.chip.forget_before(at_ms)

    def _gpu(self, index: int, at_ms: int, load: str) -> Device:
        ident = f"GPU-{uuid.UUID(int=self._random.getrandbits(128), version=4)}"
        ambient = self._random.randint(27_000, 36_000)
        chip = Chip(GPU, at_ms, ambient)
        kind = CounterKind(self._random.choice((20, 50, 100)), 1_000)
        labels = {
            "uuid": ident,
            "pci_bus_id": f"00000000:{0x11 + index * 0x10:02X}:00.0",
            "model": "Simulated H100 80GB",
            "driver": "simulated",
            "vendor": "simulated",
            "gpu": str(index),
        }
        info = MeterInfo(f"gpu/{ident}", Component.GPU, "simulated", labels)
        spec = MeterSpec(info, limit_mw=GPU.limit_mw, load=load)
        counter = Counter(chip.wave, kind, self._random.randrange(100))
        return Device(
            spec, chip, counter, at_ms, limit_mw=GPU.limit_mw, shown=_shown(("uuid", ident))
        )

    def _socket_domain(self, socket: int, domain: str, at_ms: int) -> Device:
        kind, component = (
            (PACKAGE, Component.CPU) if domain == "package" else (DRAM, Component.DRAM)
        )
        chip = Chip(kind, at_ms, self._random.randint(30_000, 38_000))
        counter = Counter(chip.wave, CounterKind(1, 61, RAPL_WRAP_UJ))
        counter.reset(at_ms, self._random.randrange(RAPL_WRAP_UJ))
        info = MeterInfo(f"cpu/{socket}/{domain}", component, "simulated", {"vendor": "simulated"})
        spec = MeterSpec(info, wrap_uj=RAPL_WRAP_UJ, limit_mw=kind.limit_mw, load=self.boot)
        return Device(spec, chip, counter, at_ms)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _shown(gpu: tuple[str, str]) -> Shown:
    return (
        ("gpu_temperature_celsius", (gpu, ("sensor", "gpu"))),
        ("gpu_utilization_ratio", (gpu, ("engine", "gpu"))),
        ("gpu_clock_hertz", (gpu, ("clock", "sm"))),
        ("gpu_memory_total_bytes", (gpu,)),
        ("gpu_throttle_seconds_total", (gpu, ("reason", "sw_thermal"))),
        ("gpu_throttle_seconds_total", (gpu, ("reason", "sw_power_cap"))),
    )


def _reloaded(spec: MeterSpec, load: str) -> MeterSpec:
    return MeterSpec(spec.info, spec.method, spec.wrap_uj, spec.limit_mw, load)

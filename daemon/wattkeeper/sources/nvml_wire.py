"""What the NVML child says, line by line, in NVML's own units. None is what was not said."""

import msgspec


class Hello(msgspec.Struct, frozen=True):
    """NVML is initialised and sees so many GPUs."""

    driver: str
    gpus: int


class Failed(msgspec.Struct, frozen=True):
    """An NVML call returned `code` (`text` in NVIDIA's words)."""

    code: int
    call: str
    text: str


class Board(msgspec.Struct, frozen=True):
    """What does not change of a GPU. `counter`: whether it counts energy itself.

    `minor`: its N in /dev/nvidiaN.
    """

    uuid: str
    pci_bus_id: str
    model: str
    serial: str
    board: str
    architecture: int | None
    module_scope: bool
    max_limit_mw: int | None
    counter: bool
    minor: int | None = None


class Instance(msgspec.Struct, frozen=True, array_like=True):
    """A MIG device: a compute instance in a GPU instance, whose memory it may share with others.

    `gpu_slices`, `compute_slices`: compute slices of the GPU instance, and of itself.
    """

    uuid: str
    profile: str
    gpu_instance: int
    gpu_slices: int
    compute_slices: int
    memory_mb: int


class Slow(msgspec.Struct, frozen=True):
    """What is read every ten seconds. `throttle_ns`: counters by reason.

    `processes`: (pid, % of SM time, UUID of the MIG device or ""). `mig` None: MIG is off.
    `mig_most`: the compute slices of the whole GPU; `mig_busy_ppm`: SM activity by MIG device.
    """

    memory_used: int | None
    memory_total: int | None
    limit_mw: int | None
    margin_c: int | None
    encoder_percent: int | None
    decoder_percent: int | None
    throttle_ns: dict[str, int]
    processes: list[tuple[int, int | None, str]] | None
    mig: list[Instance] | None
    mig_most: int = 0
    mig_busy_ppm: dict[str, int] = {}


class GpuAnswer(msgspec.Struct, frozen=True):
    """One GPU at one tick: values, or `code` with `call` and `text`, or `stuck_s` in `call`.

    `place`: index in the driver's order or PCI address. `boot_ns`: CLOCK_BOOTTIME around the
    energy counter. `event_reasons`: NVML's bits, only where there are no throttle counters.
    """

    place: int | str
    uuid: str | None = None
    code: int | None = None
    call: str = ""
    text: str = ""
    stuck_s: float | None = None
    board: Board | None = None
    slow: Slow | None = None
    boot_ns: int = 0
    energy_mj: int | None = None
    power_mw: int | None = None
    average_mw: int | None = None
    temperature_c: int | None = None
    memory_temperature_c: int | None = None
    gpu_percent: int | None = None
    memory_percent: int | None = None
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    graphics_mhz: int | None = None
    event_reasons: int | None = None


class Line(msgspec.Struct, frozen=True):
    """One line of the child: exactly one of `hello`, `failed` and `gpus` is set."""

    hello: Hello | None = None
    failed: Failed | None = None
    seq: int = 0
    gpus: list[GpuAnswer] | None = None

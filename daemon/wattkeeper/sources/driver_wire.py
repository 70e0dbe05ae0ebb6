"""What a driver's child says, line by line. None, or no entry, is what was not said."""

import msgspec


class Hello(msgspec.Struct, frozen=True):
    """The driver's library is initialised and sees so many GPUs. `driver`: its version."""

    driver: str
    gpus: int


class Failed(msgspec.Struct, frozen=True):
    """A call of the library returned `code` (`text` in the maker's words)."""

    code: int
    call: str
    text: str


class Board(msgspec.Struct, frozen=True):
    """What does not change of a GPU. `counter`: whether it counts energy itself.

    `module_scope`: its power covers a whole module, processor and all. `minor`: its N in
    /dev/nvidiaN or /dev/dri/renderDN. `dies`: PCI addresses of the other dies that its meter
    counts for; `note`: what people should know of what its meter counts.
    """

    uuid: str
    pci_bus_id: str
    model: str
    serial: str
    board: str
    architecture: str
    module_scope: bool
    max_limit_mw: int | None
    counter: bool
    minor: int | None = None
    dies: list[str] = []
    note: str = ""


class Instance(msgspec.Struct, frozen=True, array_like=True):
    """A part of a GPU: a MIG device, or one of the partitions or dies behind one AMD meter.

    A MIG device is a compute instance in a GPU instance, whose memory it may share with others.
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

    `celsius`, `percent`: by sensor and by engine. `processes`: (pid, % of the GPU's time, UUID of
    the instance or ""). `instances` None: the GPU is not divided. `slices`: the compute slices of
    the whole GPU; `busy_ppm`: activity by instance.
    """

    memory_used: int | None
    memory_total: int | None
    limit_mw: int | None
    celsius: dict[str, int]
    percent: dict[str, int]
    throttle_ns: dict[str, int]
    processes: list[tuple[int, int | None, str]] | None
    instances: list[Instance] | None
    slices: int = 0
    busy_ppm: dict[str, int] = {}


class GpuAnswer(msgspec.Struct, frozen=True):
    """One GPU at one tick: values, or `code` with `call` and `text`, or `stuck_s` in `call`.

    `place`: number in the driver's order, or PCI address. `boot_ns`: CLOCK_BOOTTIME around the
    energy counter. `celsius`, `percent`, `mhz`: by sensor, engine and clock, of which `gpu`, `gpu`
    and `sm` stand for the whole. `throttled`: whether each reason holds now, only where there are
    no throttle counters.
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
    energy_uj: int | None = None
    power_mw: int | None = None
    average_mw: int | None = None
    celsius: dict[str, int] = {}
    percent: dict[str, int] = {}
    mhz: dict[str, int] = {}
    throttled: dict[str, bool] = {}


class Line(msgspec.Struct, frozen=True):
    """One line of the child: exactly one of `hello`, `failed` and `gpus` is set."""

    hello: Hello | None = None
    failed: Failed | None = None
    seq: int = 0
    gpus: list[GpuAnswer] | None = None

"""Compiles the fake NVML library and drives it: lays out its state file and knows the truth.

`GpuState` and `_State` mirror `struct gpu` and `struct state` of `nvml.c` field by field.
"""

import ctypes
import math
import mmap
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

MAX_GPUS = 16
MAX_LOADS = 1024
ENVIRONMENT = "FAKE_NVML_STATE"
HANDLE, ENERGY, POWER, TEMPERATURE, UTILIZATION, CLOCKS = range(6)
MEMORY, PROCESSES, LIMITS, MIG, FIELDS, INFO = range(6, 12)
_FAMILIES = 12
_MAGIC = 0x4E564D4C
_SOURCE = Path(__file__).with_name("nvml.c")


class _Mig(ctypes.Structure):
    _fields_ = (
        ("uuid", ctypes.c_char * 96),
        ("profile", ctypes.c_char * 32),
        ("slices", ctypes.c_uint32),
        ("compute_slices", ctypes.c_uint32),
        ("memory_mb", ctypes.c_uint32),
        ("gpu_instance", ctypes.c_uint32),
        ("compute_instance", ctypes.c_uint32),
        ("sm_percent", ctypes.c_uint32),
    )


class _Load(ctypes.Structure):
    _fields_ = (
        ("at_ns", ctypes.c_int64),
        ("watts", ctypes.c_double),
        ("joules", ctypes.c_double),
    )


class GpuState(ctypes.Structure):
    """One GPU of the fake: writing a field takes effect in running programs at once."""

    _fields_ = (
        ("uuid", ctypes.c_char * 96),
        ("bus_id", ctypes.c_char * 32),
        ("name", ctypes.c_char * 96),
        ("serial", ctypes.c_char * 32),
        ("base_w", ctypes.c_double),
        ("amplitude_w", ctypes.c_double),
        ("period_s", ctypes.c_double),
        ("square", ctypes.c_uint32),
        ("step_ms", ctypes.c_uint32),
        ("origin_ns", ctypes.c_int64),
        ("offset_mj", ctypes.c_int64),
        ("stopped_ns", ctypes.c_int64),
        ("code", ctypes.c_uint32 * _FAMILIES),
        ("hang", ctypes.c_uint32 * _FAMILIES),
        ("all_code", ctypes.c_uint32),
        ("unsupported_count", ctypes.c_uint32),
        ("unsupported", ctypes.c_uint32 * 32),
        ("temperature_c", ctypes.c_int32),
        ("memory_temperature_c", ctypes.c_int32),
        ("margin_c", ctypes.c_int32),
        ("gpu_percent", ctypes.c_uint32),
        ("memory_percent", ctypes.c_uint32),
        ("encoder_percent", ctypes.c_uint32),
        ("decoder_percent", ctypes.c_uint32),
        ("memory_total", ctypes.c_uint64),
        ("memory_used", ctypes.c_uint64),
        ("clock_mhz", ctypes.c_uint32 * 4),
        ("limit_mw", ctypes.c_uint32),
        ("limit_max_mw", ctypes.c_uint32),
        ("architecture", ctypes.c_uint32),
        ("throttle_ns", ctypes.c_uint64 * 5),
        ("event_reasons", ctypes.c_uint64),
        ("process_count", ctypes.c_uint32),
        ("pid", ctypes.c_uint32 * 64),
        ("sm_percent", ctypes.c_uint32 * 64),
        ("mig_mode", ctypes.c_uint32),
        ("mig_count", ctypes.c_uint32),
        ("mig", _Mig * 8),
        ("calls", ctypes.c_uint64),
        ("load_count", ctypes.c_uint32),
        ("loads", _Load * MAX_LOADS),
        ("minor", ctypes.c_uint32),
        ("gpm", ctypes.c_uint32),
        ("unprivileged", ctypes.c_uint32),
        ("instance", ctypes.c_uint32 * 64),
        ("mps", ctypes.c_uint32 * 64),
    )

    def energy_mj(self, at_ns: int) -> int:
        """Return what the counter says at the boot time `at_ns`: the exact integral, stepped."""
        step = (self.step_ms or 1) * 1_000_000
        run = (self.stopped_ns or at_ns) - self.origin_ns
        t = (run - run % step) / 1e9
        return math.floor((self._joules(t) + self._load_joules(t)) * 1000) + int(self.offset_mj)

    def load(self, watts: float, at_ns: int) -> None:
        """Let the GPU draw `watts` above its waveform from the boot time `at_ns` on.

        The counter does not jump, whatever reads it meanwhile. Calls come in the order of time
        and not in the past; at most MAX_LOADS of them.
        """
        joules = self._load_joules((at_ns - self.origin_ns) / 1e9)
        self.loads[self.load_count] = _Load(at_ns, watts, joules)
        self.load_count += 1

    def _load_joules(self, t: float) -> float:
        for i in range(self.load_count - 1, -1, -1):
            load = self.loads[i]
            since = (load.at_ns - self.origin_ns) / 1e9
            if since <= t:
                joules: float = load.joules + load.watts * (t - since)
                return joules
        return 0.0

    def _joules(self, t: float) -> float:
        joules: float = self.base_w * t
        if self.period_s <= 0:
            return joules
        if self.square:
            phase = math.fmod(t, self.period_s)
            return joules + self.amplitude_w * min(phase, self.period_s - phase)
        turn = 2 * math.pi * t / self.period_s
        return joules + self.amplitude_w * self.period_s / (2 * math.pi) * (1 - math.cos(turn))

    def wave(
        self, base_w: float, amplitude_w: float = 0, period_s: float = 0, *, square: bool = False
    ) -> None:
        """Set the power waveform: base ± amplitude, in watts, over a period in seconds."""
        self.base_w, self.amplitude_w, self.period_s = base_w, amplitude_w, period_s
        self.square = int(square)

    def processes(
        self,
        pids: Sequence[int],
        sm_percent: Sequence[int] = (),
        instances: Sequence[str] = (),
        mps: Sequence[int] = (),
    ) -> None:
        """Put processes on the GPU, each with its share of SM time.

        `instances`: UUIDs of the MIG devices that they are on; `mps`: pids that are MPS clients.
        """
        uuids = [self.mig[i].uuid.decode() for i in range(self.mig_count)]
        for i, pid in enumerate(pids):
            self.pid[i] = pid
            self.sm_percent[i] = sm_percent[i] if sm_percent else 0
            self.instance[i] = 1 + uuids.index(instances[i]) if instances else 0
            self.mps[i] = int(pid in mps)
        self.process_count = len(pids)

    def without_fields(self, *ids: int) -> None:
        """Let `nvmlDeviceGetFieldValues` answer "not supported" for these fields."""
        self.unsupported[: len(ids)] = ids
        self.unsupported_count = len(ids)

    def slice(self, *instances: tuple[str, str, int], gpu_instances: Sequence[int] = ()) -> None:
        """Switch MIG on with instances of (uuid, profile, slices of the GPU instance).

        A profile such as `1c.3g.40gb` is a compute instance that has only a part of its GPU
        instance; `gpu_instances` says in which one each is, else each is in one of its own.
        """
        inner: dict[int, int] = {}
        for i, (uuid, profile, slices) in enumerate(instances):
            number = gpu_instances[i] if gpu_instances else i + 1
            compute, _, rest = profile.partition("c.")
            # A 10 GB slice is told as 9856 MB: the driver keeps some for itself.
            memory_mb = int((rest or profile).partition(".")[2].rstrip("gb")) * 986
            own = int(compute) if rest else slices
            place = inner[number] = inner.get(number, -1) + 1
            self.mig[i] = _Mig(
                uuid.encode(), profile.encode(), slices, own, memory_mb, number, place, 100
            )
        self.mig_count = len(instances)
        self.mig_mode = 1


class _State(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("gpu_count", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("init_code", ctypes.c_uint32),
        ("init_hang", ctypes.c_uint32),
        ("reload_code", ctypes.c_uint32),
        ("no_field_values", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("now_ns", ctypes.c_int64),
        ("driver", ctypes.c_char * 80),
        ("gpu", GpuState * MAX_GPUS),
    )


def compile_library(folder: Path) -> Path:
    """Compile the fake into `folder`; returns the path of `libnvidia-ml.so.1`."""
    target = folder / "libnvidia-ml.so.1"
    command = ["cc", "-O1", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o"]
    subprocess.run([*command, str(target), str(_SOURCE), "-lm"], check=True)
    return target


class FakeNvml:
    """The state file of the fake, mapped: GPUs of known joules, and a driver to be reloaded."""

    def __init__(self, path: Path, gpus: int = 2) -> None:
        self.path = path
        path.write_bytes(bytes(ctypes.sizeof(_State)))
        with path.open("r+b") as file:
            self._state = _State.from_buffer(mmap.mmap(file.fileno(), 0))
        self._state.reload_code = 9
        self._state.driver = b"610.43.02"
        for i in range(MAX_GPUS):
            self._lay_out(i)
        self.set_count(gpus)
        self._state.magic = _MAGIC

    def _lay_out(self, i: int) -> None:
        gpu = self.gpu(i)
        gpu.uuid = f"GPU-{i:08x}-0000-4000-8000-{0xC0FFEE00 + i:012x}".encode()
        gpu.bus_id = f"00000000:{0x17 + i:02X}:00.0".encode()
        gpu.name = b"NVIDIA H100 80GB HBM3"
        gpu.serial = f"165000000000{i:02d}".encode()
        gpu.origin_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 3_600_000_000_000
        gpu.step_ms = 20
        gpu.wave(300 + 10 * i, 150, 7)
        gpu.temperature_c, gpu.memory_temperature_c, gpu.margin_c = 55 + i, 60 + i, 30 - i
        gpu.gpu_percent, gpu.memory_percent = 90, 40
        gpu.memory_total, gpu.memory_used = 80 << 30, 20 << 30
        gpu.clock_mhz[:] = [1980, 1970, 2619, 1500]
        gpu.limit_mw = gpu.limit_max_mw = 700_000
        gpu.architecture, gpu.minor, gpu.gpm = 9, i, 1

    def gpu(self, i: int) -> GpuState:
        """Return GPU number `i` in the driver's order."""
        gpu: GpuState = self._state.gpu[i]
        return gpu

    def set_count(self, gpus: int) -> None:
        """Let the driver list the first `gpus` of its sixteen GPUs."""
        self._state.gpu_count = gpus

    def meter(self, i: int) -> str:
        """Return the meter name of GPU number `i`."""
        return f"gpu/{self.gpu(i).uuid.decode()}"

    def set_time(self, boot_ns: int) -> None:
        """Let the hardware live at this boot time (ns) instead of the machine's; 0 undoes it."""
        self._state.now_ns = boot_ns

    def set_init(self, code: int = 0, *, hang: bool = False) -> None:
        """Let `nvmlInit` return `code`, or hang until told otherwise."""
        self._state.init_code, self._state.init_hang = code, int(hang)

    def set_field_values(self, *, works: bool) -> None:
        """Let `nvmlDeviceGetFieldValues` work, or be unsupported as a whole."""
        self._state.no_field_values = int(not works)

    def reload(self, code: int = 9, *, driver: str = "") -> None:
        """Reload the driver: old handles return `code` until the library is initialised anew."""
        self._state.reload_code = code
        if driver:
            self._state.driver = driver.encode()
        self._state.generation += 1

    def holders(self, i: int) -> list[int]:
        """Return the PIDs that hold GPU number `i` open, as `fuser /dev/nvidia<i>` would."""
        target = f"{self.path}.gpu{i}"
        found = set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                if str(link.readlink()) == target:
                    found.add(int(link.parts[2]))
            except (FileNotFoundError, PermissionError):
                continue  # the process ended, or is not ours
        return sorted(found)

"""Compiles the fake libamd_smi.so and drives it: lays out its state and sysfs, knows the truth.

`AmdGpu` and `_State` mirror `struct gpu` and `struct state` of `amd.c` field by field.
"""

import ctypes
import importlib.util
import mmap
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.sources.tree import put

MAX_GPUS = 16
ENVIRONMENT = "FAKE_AMD_STATE"
HANDLE, ENERGY, POWER, TEMPERATURE, ACTIVITY, CLOCKS = range(6)
MEMORY, PROCESSES, LIMITS, VIOLATIONS, INFO = range(6, 11)
_FAMILIES = 11
_MAX_PARTS = 8
_MAGIC = 0x414D4447
_SOURCE = Path(__file__).with_name("amd.c")
_LOOKED_UP = re.compile(r"_libraries\['libamd_smi.so'\]\.(\w+)")


class AmdGpu(ctypes.Structure):
    """One GPU of the fake: writing a field takes effect in running programs at once."""

    _fields_ = (
        ("name", ctypes.c_char * 64),
        ("serial", ctypes.c_char * 32),
        ("gfx", ctypes.c_char * 16),
        ("bus", ctypes.c_uint32),
        ("device_id", ctypes.c_uint32),
        ("power_mw", ctypes.c_uint64),
        ("origin_ns", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("stopped_ns", ctypes.c_int64),
        ("step_ms", ctypes.c_uint32),
        ("silent", ctypes.c_uint32),
        ("powerless", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("resolution_uj", ctypes.c_float),
        ("code", ctypes.c_uint32 * _FAMILIES),
        ("hang", ctypes.c_uint32 * _FAMILIES),
        ("all_code", ctypes.c_uint32),
        ("celsius", ctypes.c_int32 * 3),
        ("gfx_percent", ctypes.c_uint32 * _MAX_PARTS),
        ("memory_percent", ctypes.c_uint32),
        ("mhz", ctypes.c_uint32 * 3),
        ("memory_total", ctypes.c_uint64),
        ("memory_used", ctypes.c_uint64),
        ("cap_uw", ctypes.c_uint64),
        ("cap_max_uw", ctypes.c_uint64),
        ("samples", ctypes.c_uint64),
        ("violations", ctypes.c_uint64 * 5),
        ("parts", ctypes.c_uint32),
        ("process_count", ctypes.c_uint32),
        ("pid", ctypes.c_uint32 * 64),
        ("part", ctypes.c_uint32 * 64),
        ("calls", ctypes.c_uint64),
    )

    def count(self, at_ns: int) -> int:
        """Return what the counter says at the boot time `at_ns`, in 2⁻¹⁶ J."""
        run = (self.stopped_ns or at_ns) - self.origin_ns
        run -= run % ((self.step_ms or 1) * 1_000_000)
        count: int = self.power_mw * run * 65536 // 10**12 + self.offset
        return count

    def energy_uj(self, at_ns: int) -> int:
        """Return the counter in whole microjoules."""
        return self.count(at_ns) * 10**6 // 65536

    def processes(self, pids: Sequence[int], parts: Sequence[int] = ()) -> None:
        """Put processes on the GPU; `parts`: on which of its partitions each is."""
        for i, pid in enumerate(pids):
            self.pid[i] = pid
            self.part[i] = parts[i] if parts else 0
        self.process_count = len(pids)


class _State(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("gpu_count", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("init_code", ctypes.c_uint32),
        ("init_hang", ctypes.c_uint32),
        ("reload_code", ctypes.c_uint32),
        ("now_ns", ctypes.c_int64),
        ("driver", ctypes.c_char * 64),
        ("gpu", AmdGpu * MAX_GPUS),
    )


def compile_library(rocm: Path, *, without: Sequence[str] = ()) -> Path:
    """Compile the fake into a folder as ROCm's; returns the folder.

    `without`: functions that this version of the library lacks.
    """
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.origin is not None
    wrapper = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text()
    source = _SOURCE.read_text()
    ours = set(re.findall(r"^int (amdsmi_\w+)\(", source, re.MULTILINE))
    stubs = {*_LOOKED_UP.findall(wrapper)} - ours - {*without}
    target = rocm / "lib/libamd_smi.so"
    target.parent.mkdir(parents=True)
    text = source + "".join(f"int {name}(void) {{ return 2; }}\n" for name in sorted(stubs))
    subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", "-x", "c", "-o", str(target), "-"],
        input=text,
        text=True,
        check=True,
    )
    return rocm


class FakeAmd:
    """The state file of the fake, mapped: GPUs of known joules, and a driver to be reloaded.

    `sysfs` gets what the kernel shows of them.
    """

    def __init__(self, path: Path, sysfs: Path, gpus: int = 2) -> None:
        self.path = path
        self._sysfs = sysfs
        path.write_bytes(bytes(ctypes.sizeof(_State)))
        with path.open("r+b") as file:
            self._state = _State.from_buffer(mmap.mmap(file.fileno(), 0))
        self._state.reload_code = 34
        self._state.driver = b"6.12.12"
        for i in range(MAX_GPUS):
            self._lay_out(i)
        self.set_count(gpus)
        (sysfs / "module/amdgpu").mkdir(parents=True)
        self._state.magic = _MAGIC

    def _lay_out(self, i: int) -> None:
        gpu = self.gpu(i)
        gpu.name, gpu.gfx, gpu.device_id = b"AMD Instinct MI300X", b"942", 0x74A1
        gpu.serial, gpu.bus = f"69232500{i:04d}".encode(), 0xC1 + i
        gpu.origin_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 3_600_000_000_000
        gpu.power_mw, gpu.step_ms = 400_000 + 10_000 * i, 10
        gpu.resolution_uj = 15.3
        gpu.celsius[:] = [0, 62 + i, 55 + i]
        gpu.gfx_percent[:] = [90] * _MAX_PARTS
        gpu.memory_percent = 40
        gpu.mhz[:] = [2100, 1200, 900 + i]
        gpu.memory_total, gpu.memory_used = 192 << 30, 20 << 30
        gpu.cap_uw = gpu.cap_max_uw = 750_000_000

    def show(self, i: int) -> None:
        """Let sysfs show GPU number `i`."""
        device = f"bus/pci/devices/{self.address(i)}"
        put(
            self._sysfs,
            {
                f"{device}/vendor": "0x1002\n",
                f"{device}/class": "0x120000\n",
                f"{device}/device": f"0x{self.gpu(i).device_id:x}\n",
                f"{device}/unique_id": f"{0x5C1FA600 + i:x}\n",
                f"{device}/drm/renderD{128 + i}/dev": f"226:{128 + i}\n",
            },
        )

    def gpu(self, i: int) -> AmdGpu:
        """Return GPU number `i` in the driver's order."""
        gpu: AmdGpu = self._state.gpu[i]
        return gpu

    def pair(self, i: int) -> None:
        """Make GPUs `i` and `i + 1` the dies of one MI250X, of which the first counts for both."""
        for die in (self.gpu(i), self.gpu(i + 1)):
            die.name, die.gfx, die.device_id = b"AMD Instinct MI250X", b"90a", 0x7408
            die.memory_total = 64 << 30
        self.gpu(i + 1).silent = 1

    def apu(self, i: int) -> None:
        """Make GPU number `i` an MI300A."""
        self.gpu(i).name, self.gpu(i).device_id = b"AMD Instinct MI300A", 0x74A0
        self.show(i)

    def set_count(self, gpus: int) -> None:
        """Let the driver list the first `gpus` of its sixteen GPUs, and sysfs show them."""
        for i in range(gpus):
            self.show(i)
        self._state.gpu_count = gpus

    def address(self, i: int) -> str:
        """Return the PCI address of GPU number `i`."""
        return f"0000:{self.gpu(i).bus:02x}:00.0"

    def uuid(self, i: int) -> str:
        """Return what HIP calls GPU number `i`."""
        return f"GPU-{0x5C1FA600 + i:016x}"

    def meter(self, i: int) -> str:
        """Return the meter name of GPU number `i`."""
        return f"gpu/{self.uuid(i)}"

    def set_time(self, boot_ns: int) -> None:
        """Let the hardware live at this boot time (ns) instead of the machine's; 0 undoes it."""
        self._state.now_ns = boot_ns

    def set_init(self, code: int = 0, *, hang: bool = False) -> None:
        """Let `amdsmi_init` return `code`, or hang until told otherwise."""
        self._state.init_code, self._state.init_hang = code, int(hang)

    def reload(self, code: int = 34, *, driver: str = "") -> None:
        """Reload the driver: old handles return `code` until the library is initialised anew."""
        self._state.reload_code = code
        if driver:
            self._state.driver = driver.encode()
        self._state.generation += 1

"""One AMD GPU asked through amdsmi. Runs in the child: standard library and amdsmi only."""

import math
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import amdsmi

from wattkeeper.sources import amd_sysfs
from wattkeeper.sources.driver_device import CallError, Device, known

smi: Any = amdsmi  # the binding ships no types

_NOT_SUPPORTED, _UNEXPECTED_DATA = 2, 43
_NOT_SAID = 0xFFFF
"""The library's word for a number that it has not, in its shortest form."""
_MOST = (1 << 63) - 1
"""9 TJ in µJ, and more bytes than any memory has: what is above is the library's garbage."""
_NEAR_UJ = 0.06
# Reasons, sensors and clocks are called as NVIDIA's where they mean the same: one alert, one panel.
_VIOLATIONS = {
    "acc_prochot_thrm": "hw_thermal",
    "acc_ppt_pwr": "sw_power_cap",
    "acc_socket_thrm": "sw_thermal",
    "acc_vr_thrm": "vr_thermal",
    "acc_hbm_thrm": "memory_thermal",
}
_SENSORS = {"gpu": "EDGE", "hotspot": "HOTSPOT", "memory": "VRAM"}
_CLOCKS = {"sm": "GFX", "memory": "MEM", "soc": "SOC"}


def microjoules(count: int, resolution_uj: float) -> int:
    """Return an energy counter in whole microjoules.

    A unit is 2⁻¹⁶ J = 15.2588 µJ. Most libraries round it, to 15.3 or 15.259, and 15.3 is 0.27 %
    too much: what is near is taken for the power of two that it stands for.
    """
    if abs(resolution_uj - 1e6 / 65536) < _NEAR_UJ:
        return count * 1_000_000 // 65536
    return math.floor(count * Fraction(resolution_uj))


class AmdDevice(Device):
    """An AMD GPU with a meter of its own, by its PCI address.

    `handles`: its own, and those of what has none: the partitions of its socket, or (`dies`) the
    other die of an MI250X by its PCI address. `path_sysfs`: where identities come from.
    """

    library = smi
    # The binding also decodes and converts what the library wrote.
    error = (smi.AmdSmiException, ValueError)
    broken = frozenset({31, 32, 34, 51})  # not found, not initialised, driver not loaded, no driver
    not_offered = frozenset({1, 2, 3, 5, 52, 55})

    def __init__(
        self, place: str, handles: Sequence[Any], path_sysfs: Path, dies: Sequence[str] = ()
    ) -> None:
        super().__init__(place)
        self._handles = handles
        self._path_sysfs = path_sysfs
        self._dies = dies
        self._address = place
        self._violations: dict[str, int] = {}
        self._throttle_ns: dict[str, int] = {}
        self._violations_at = 0

    @classmethod
    def failure(cls, code: int) -> CallError:
        """Return amdsmi's words for a return code."""
        text = smi.AmdSmiLibraryException(code).get_error_info()
        return CallError(code, text, broken=code in cls.broken)

    @staticmethod
    def code_of(error: Any) -> int:
        """Return the return code in an error, UNEXPECTED_DATA where the binding failed itself."""
        code = getattr(error, "err_code", None)
        return _UNEXPECTED_DATA if code is None else int(code)

    def _attach(self) -> tuple[Any, str]:
        self.call = "amdsmi_get_gpu_device_bdf"
        smi.amdsmi_get_gpu_device_bdf(self._handles[0])
        return self._handles[0], amd_sysfs.identity(self._path_sysfs, self._address)

    def _board(self) -> dict[str, Any]:
        asic = self._ask("amdsmi_get_gpu_asic_info") or {}
        board = self._ask("amdsmi_get_gpu_board_info") or {}
        caps = self._ask("amdsmi_get_power_cap_info") or {}
        name = _text(asic.get("market_name")) or _text(board.get("product_name"))
        return {
            "uuid": self._uuid,
            "pci_bus_id": self._address,
            "model": name,
            "serial": _text(board.get("product_serial")),
            "board": _text(board.get("model_number")),
            "minor": amd_sysfs.minor(self._path_sysfs, self._address),
            "architecture": _text(asic.get("target_graphics_version")),
            "module_scope": amd_sysfs.counts_processors(self._path_sysfs, self._address),
            "dies": [*self._dies],
            "note": self._note_on_scope(),
            "max_limit_mw": (_whole(caps.get("max_power_cap")) or 0) // 1000 or None,
            "counter": self._counts(),
        }

    def _counts(self) -> bool:
        """Tell whether it counts energy, also where the count cannot be read just now."""
        self._last_error = None
        return self._energy()[1] is not None or self._last_error is not None

    def _note_on_scope(self) -> str:
        if self._dies:
            return f"counts for both dies: {' and '.join(self._dies)} has no meter of its own"
        if len(self._handles) > 1:
            return f"counts for its {len(self._handles)} partitions"
        if amd_sysfs.counts_processors(self._path_sysfs, self._address):
            return "counts the processors of its socket as well"
        return ""

    # -- every tick --------------------------------------------------------------------------

    def _energy(self) -> tuple[int, int | None]:
        """Return (boot ns, µJ). The clock is read around the counter, so the instant is close."""
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        said = self._ask("amdsmi_get_energy_count")
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        at = (before + after) // 2
        # ROCm 6.2 calls the count `power`.
        count = said.get("energy_accumulator", said.get("power")) if said else None
        # A GPU that counts nothing says 0: one that counts has drawn something since it started.
        if not count or not 0 < said["counter_resolution"] < math.inf:
            return at, None
        return at, _whole(microjoules(count, said["counter_resolution"]))

    def _fast(self) -> dict[str, Any]:
        self._last_error = None
        at, energy = self._energy()
        said = self._ask("amdsmi_get_power_info") or {}
        average = _number(said.get("average_socket_power"))
        now = [_number(said.get(key)) for key in ("current_socket_power", "socket_power")]
        power = next((watts for watts in (now[0], average, now[1]) if watts), None)
        if energy is None and power is None:
            raise self._nothing(_NOT_SUPPORTED, "amdsmi_get_power_info")
        return {
            "boot_ns": at,
            "energy_uj": energy,
            "power_mw": None if power is None else power * 1000,
            "average_mw": average * 1000 if average else None,
            "celsius": self._temperatures(),
            "percent": self._activity(),
            "mhz": known({clock: self._mhz(clock) for clock in _CLOCKS}),
        }

    def _temperatures(self) -> dict[str, int]:
        found = known({sensor: self._celsius(sensor) for sensor in _SENSORS})
        # MI300 has no sensor at its edge.
        return {"gpu": found["hotspot"], **found} if "hotspot" in found else found

    def _celsius(self, sensor: str) -> int | None:
        """Return the temperature of the hottest die."""
        kind = getattr(smi.AmdSmiTemperatureType, _SENSORS[sensor])
        now = smi.AmdSmiTemperatureMetric.CURRENT
        said = [
            _number(self._ask("amdsmi_get_temp_metric", kind, now, handle=handle))
            for handle in self._each_die()
        ]
        # 0 is what a die says that has no such sensor.
        return max((celsius for celsius in said if celsius), default=None)

    def _mhz(self, clock: str) -> int | None:
        kind = getattr(smi.AmdSmiClkType, _CLOCKS[clock])
        said = self._ask("amdsmi_get_clock_info", kind) or {}
        return _number(said.get("clk"))

    def _activity(self) -> dict[str, int]:
        """Return how busy the engines were, on the mean of its dies."""
        said = [self._ask("amdsmi_get_gpu_activity", handle=h) or {} for h in self._each_die()]
        found = {}
        for engine, key in (("gpu", "gfx_activity"), ("memory", "umc_activity")):
            percents = [_number(values.get(key)) for values in said]
            if None not in percents:
                found[engine] = sum(p or 0 for p in percents) // len(percents)
        return found

    def _each_die(self) -> Sequence[Any]:
        """Return the handles of silicon of its own; partitions share that of their socket."""
        return self._handles if self._dies else self._handles[:1]

    # -- every ten seconds -------------------------------------------------------------------

    def _slow(self, since_s: float) -> dict[str, Any]:
        del since_s
        vram = smi.AmdSmiMemoryType.VRAM
        total = self._sum("amdsmi_get_gpu_memory_total", vram)
        caps = self._ask("amdsmi_get_power_cap_info") or {}
        return {
            "memory_used": self._sum("amdsmi_get_gpu_memory_usage", vram),
            "memory_total": total,
            "limit_mw": (_whole(caps.get("power_cap")) or 0) // 1000 or None,
            "celsius": {},
            "percent": {},
            "throttle_ns": self._throttled(),
            "processes": self._processes(),
            "instances": self._instances(total or 0) if len(self._handles) > 1 else None,
            "slices": len(self._handles),
            "busy_ppm": self._busy() if len(self._handles) > 1 else {},
        }

    def _sum(self, name: str, *args: Any) -> int | None:
        said = [self._ask(name, *args, handle=handle) for handle in self._each_die()]
        return None if None in said else _whole(sum(said))

    def _throttled(self) -> dict[str, int]:
        """Return nanoseconds throttled by reason, since this process began; MI300 and newer.

        The firmware counts its own samples, and those among them that were limited.
        """
        said = self._ask("amdsmi_get_violation_status")
        now = time.monotonic_ns()
        if not said or _whole(said.get("acc_counter")) is None:
            return {}
        counts = {key: _whole(said.get(key)) for key in ("acc_counter", *_VIOLATIONS)}
        before, self._violations = self._violations, known(counts)
        elapsed, self._violations_at = now - self._violations_at, now
        samples = self._violations["acc_counter"] - before.get("acc_counter", 0)
        for key, reason in _VIOLATIONS.items():
            if key in self._violations:
                limited = self._violations[key] - before.get(key, 0)
                counted = bool(before) and 0 <= limited <= samples and samples > 0
                spent = elapsed * limited // samples if counted else 0
                self._throttle_ns[reason] = self._throttle_ns.get(reason, 0) + spent
        return dict(self._throttle_ns)

    def _processes(self) -> list[tuple[int, int | None, str]] | None:
        """Return (pid, None, part) of each process; who is on several parts stands on each."""
        found: list[tuple[int, int | None, str]] = []
        for part, handle in zip(self._parts(), self._handles, strict=True):
            listed = self._ask("amdsmi_get_gpu_process_list", handle=handle)
            if listed is None:
                return None
            found += [(pid, None, part) for pid in sorted({p["pid"] for p in listed}) if pid]
        return found

    def _parts(self) -> list[str]:
        """Return what the handles are called as parts of this GPU, "" where it is whole."""
        if len(self._handles) == 1:
            return [""]
        if self._dies:
            others = [amd_sysfs.identity(self._path_sysfs, die) for die in self._dies]
            return [self._uuid, *others]
        return [f"{self._uuid}/{number}" for number in range(len(self._handles))]

    def _instances(self, total: int) -> list[list[Any]]:
        each_mb = total // len(self._handles) >> 20
        return [[part, "", number, 1, 1, each_mb] for number, part in enumerate(self._parts())]

    def _busy(self) -> dict[str, int]:
        said = [self._ask("amdsmi_get_gpu_activity", handle=h) or {} for h in self._handles]
        percents = [_number(values.get("gfx_activity")) for values in said]
        pairs = zip(self._parts(), percents, strict=True)
        return {part: percent * 10_000 for part, percent in pairs if percent is not None}


def _number(value: Any) -> int | None:
    """Return a number that was said: the binding says N/A in words, or in ones."""
    return value if isinstance(value, int) and 0 <= value < _NOT_SAID else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _MOST else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value != "N/A" else ""

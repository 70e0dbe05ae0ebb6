"""One NVIDIA GPU asked through NVML. Runs in the child: standard library and pynvml only."""

import time
from collections.abc import Sequence
from typing import Any

import pynvml

from wattkeeper.sources.driver_device import CallError, Device, known
from wattkeeper.sources.nvml_mig import PROCESS_LISTS, Mig
from wattkeeper.sources.nvml_names import ARCHITECTURES, EVENT_REASONS, THROTTLE

nvml: Any = pynvml  # the binding ships no types

_UJ_PER_MJ = 1000
_MEMORY_TEMPERATURE = 82
_POWER_AVERAGE, _POWER_INSTANT, _MAX_LIMIT, _LIMIT = 185, 186, 188, 190
_MODULE_SCOPE = 1
_SUPERCHIPS = ("GH200", "GB200", "GB300")
_VALUE = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class NvmlDevice(Device):
    """An NVIDIA GPU. `gpm`: sample the activity of MIG instances, which may lock out profilers."""

    library = nvml
    error = nvml.NVMLError
    broken = frozenset(
        {
            nvml.NVML_ERROR_UNINITIALIZED,
            nvml.NVML_ERROR_DRIVER_NOT_LOADED,
            nvml.NVML_ERROR_GPU_IS_LOST,
            nvml.NVML_ERROR_RESET_REQUIRED,
            nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        }
    )
    not_offered = frozenset(
        {
            nvml.NVML_ERROR_INVALID_ARGUMENT,  # what old drivers say of a field they do not know
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            nvml.NVML_ERROR_DEPRECATED,
        }
    )

    def __init__(self, place: int | str, *, gpm: bool = False) -> None:
        super().__init__(place)
        self._mig = Mig(self._call, gpm=gpm)
        self._scope = 0

    @classmethod
    def failure(cls, code: int) -> CallError:
        """Return NVML's words for a return code."""
        return CallError(code, str(nvml.NVMLError(code)), broken=code in cls.broken)

    @staticmethod
    def code_of(error: Any) -> int:
        """Return the return code in an `NVMLError`."""
        code: int = error.value
        return code

    def _attach(self) -> tuple[Any, str]:
        if isinstance(self.place, int):
            self.call = "nvmlDeviceGetHandleByIndex"
            handle = nvml.nvmlDeviceGetHandleByIndex(self.place)
        else:
            self.call = "nvmlDeviceGetHandleByPciBusId"
            handle = nvml.nvmlDeviceGetHandleByPciBusId(self.place.encode())
        self.call = "nvmlDeviceGetUUID"
        return handle, nvml.nvmlDeviceGetUUID(handle)

    def _board(self) -> dict[str, Any]:
        name = self._ask("nvmlDeviceGetName") or ""
        # On Grace superchips the energy counter covers the whole module, and only there is
        # there a power reading of that scope: energy and power must speak of the same thing.
        module = any(chip in name for chip in _SUPERCHIPS)
        if module and self._fields([(_POWER_INSTANT, _MODULE_SCOPE)]):
            self._scope = _MODULE_SCOPE
        pci = self._ask("nvmlDeviceGetPciInfo_v3")
        limits = self._ask("nvmlDeviceGetPowerManagementLimitConstraints")
        most = limits[1] if limits else None
        if self._scope:
            most = next(iter(self._fields([(_MAX_LIMIT, self._scope)]).values()), None)
        self._energy()
        return {
            "uuid": self._uuid,
            "pci_bus_id": pci.busId if pci else "",
            "model": name,
            "serial": self._ask("nvmlDeviceGetSerial") or "",
            "board": self._ask("nvmlDeviceGetBoardPartNumber") or "",
            "minor": self._ask("nvmlDeviceGetMinorNumber"),
            "architecture": ARCHITECTURES.get(self._ask("nvmlDeviceGetArchitecture"), ""),
            "module_scope": bool(self._scope),
            "max_limit_mw": most or None,
            "counter": ("nvmlDeviceGetTotalEnergyConsumption",) not in self._not_offered,
        }

    # -- asking ------------------------------------------------------------------------------

    def _fields(self, wanted: Sequence[tuple[int, int]]) -> dict[int, int]:
        """Return the values of those (field, scope) that answered, in one call."""
        fields = [field for field in wanted if field not in self._not_offered]
        values = self._ask_fields(fields) if fields else None
        answered: dict[int, int] = {}
        for field, value in zip(fields, values or (), strict=False):
            if value.nvmlReturn:
                self._note(value.nvmlReturn, f"nvmlDeviceGetFieldValues({field[0]})", field)
            else:
                answered[field[0]] = int(getattr(value.value, _VALUE[value.valueType]))
        return answered

    def _ask_fields(self, fields: list[tuple[int, int]]) -> Any:
        key = ("nvmlDeviceGetFieldValues",)
        if key in self._not_offered:
            return None
        self.call = key[0]
        try:
            return nvml.nvmlDeviceGetFieldValues(self._handle, fields)
        except nvml.NVMLError as error:
            self._note(error.value, key[0], key)
            return None

    # -- every tick --------------------------------------------------------------------------

    def _energy(self) -> tuple[int, int | None]:
        """Return (boot ns, µJ). The clock is read around the counter, so the instant is close."""
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return (before + after) // 2, None if energy is None else energy * _UJ_PER_MJ

    def _fast(self) -> dict[str, Any]:
        self._last_error = None
        at, energy = self._energy()
        scope = self._scope
        fields = self._fields(
            [(_POWER_INSTANT, scope), (_POWER_AVERAGE, scope), (_MEMORY_TEMPERATURE, 0)]
        )
        average = fields.get(_POWER_AVERAGE)
        power = fields.get(_POWER_INSTANT, average)
        if power is None and not scope:
            power = self._ask("nvmlDeviceGetPowerUsage")
        if energy is None and power is None:
            raise self._nothing(nvml.NVML_ERROR_NOT_SUPPORTED, "nvmlDeviceGetPowerUsage")
        use = self._ask("nvmlDeviceGetUtilizationRates")
        answer = {
            "boot_ns": at,
            "energy_uj": energy,
            "power_mw": power,
            "average_mw": average,
            "celsius": known(
                {"gpu": self._temperature(), "memory": fields.get(_MEMORY_TEMPERATURE)}
            ),
            "percent": {"gpu": use.gpu, "memory": use.memory} if use else {},
            "mhz": known(
                {
                    "sm": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
                    "memory": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
                    "graphics": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_GRAPHICS),
                }
            ),
        }
        if all((field, 0) in self._not_offered for field in THROTTLE):
            reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
            if reasons is not None:
                answer["throttled"] = {r: bool(reasons & bit) for bit, r in EVENT_REASONS.items()}
        return answer

    def _temperature(self) -> int | None:
        sensor = nvml.NVML_TEMPERATURE_GPU
        celsius: int | None = self._ask("nvmlDeviceGetTemperatureV", sensor)
        if celsius is None:
            celsius = self._ask("nvmlDeviceGetTemperature", sensor)
        return celsius

    # -- every ten seconds: calls that cost milliseconds -----------------------------------------

    def _slow(self, since_s: float) -> dict[str, Any]:
        memory = self._ask("nvmlDeviceGetMemoryInfo", nvml.nvmlMemory_v2)
        memory = memory or self._ask("nvmlDeviceGetMemoryInfo")
        fields = self._fields([(_LIMIT, self._scope), *((field, 0) for field in THROTTLE)])
        limit = fields.pop(_LIMIT, None)
        if limit is None and not self._scope:
            limit = self._ask("nvmlDeviceGetPowerManagementLimit")
        encoder = self._ask("nvmlDeviceGetEncoderUtilization")
        decoder = self._ask("nvmlDeviceGetDecoderUtilization")
        mig = self._instances()
        return {
            "memory_used": memory.used if memory else None,
            "memory_total": memory.total if memory else None,
            "limit_mw": limit,
            "celsius": known({"margin": self._margin()}),
            "percent": known(
                {
                    "encoder": encoder[0] if encoder else None,
                    "decoder": decoder[0] if decoder else None,
                }
            ),
            "throttle_ns": {THROTTLE[field]: value for field, value in fields.items()},
            "processes": self._processes(since_s) if mig is None else self._on_instances(),
            "instances": mig,
            "slices": self._most_instances() if mig is not None else 0,
            "busy_ppm": self._mig.activity(self._handle) if mig else {},
        }

    def _margin(self) -> int | None:
        margin: int | None = self._ask("nvmlDeviceGetMarginTemperature")
        if margin is None:
            slowdown = self._ask(
                "nvmlDeviceGetTemperatureThreshold", nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
            )
            celsius = self._temperature()
            margin = slowdown - celsius if slowdown and celsius is not None else None
        return margin

    def _listed(self) -> list[Any] | None:
        """Return the processes on the GPU, None if the driver does not say."""
        lists = [self._ask(name) for name in PROCESS_LISTS]
        if lists[0] is None:
            return None
        by_pid = {process.pid: process for listed in lists for process in listed or ()}
        return [by_pid[pid] for pid in sorted(by_pid)]

    def _processes(self, since_s: float) -> list[tuple[int, int | None, str]] | None:
        """Return (pid, percent of SM time, "") of each process, None if the driver is silent."""
        listed = self._listed()
        if listed is None:
            return None
        # Asked only where it decides something: it takes up to 100 ms on real hardware.
        use = self._process_use(since_s) if len(listed) > 1 else None
        # The driver lists only those that did something.
        return [(p.pid, None if use is None else use.get(p.pid, 0), "") for p in listed]

    def _process_use(self, since_s: float) -> dict[int, int] | None:
        """Return each process's mean percent of SM time; None if that is not known."""
        since = time.time_ns() // 1000 - int(since_s * 1_000_000)
        self.call = "nvmlDeviceGetProcessUtilization"
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(self._handle, since)
        except nvml.NVMLError as error:
            if error.value in self.broken:
                raise self.failure(error.value) from error
            # NOT_FOUND: none of them did anything. The binding raises 0 for an empty list.
            return {} if error.value in (0, nvml.NVML_ERROR_NOT_FOUND) else None
        seen: dict[int, list[int]] = {}
        for sample in samples:
            seen.setdefault(sample.pid, []).append(sample.smUtil)
        return {pid: sum(percents) // len(percents) for pid, percents in seen.items()}

    # -- MIG -------------------------------------------------------------------------------------

    def _call(self, name: str, *args: Any) -> Any:
        """Return what a call on an instance says, None if nothing: instances come and go."""
        function = getattr(nvml, name, None)
        if function is None:
            return None
        self.call = name
        try:
            return function(*args)
        except nvml.NVMLError as error:
            if error.value in self.broken:
                raise self.failure(error.value) from error
            return None

    def _instances(self) -> list[list[Any]] | None:
        """Return the MIG instances, None where MIG is off."""
        mode = self._ask("nvmlDeviceGetMigMode")
        if not mode or not mode[0]:
            return None
        return self._mig.look(self._handle, self._most_instances())

    def _most_instances(self) -> int:
        """Return how many of the smallest instances there is room for: the compute slices."""
        return self._ask("nvmlDeviceGetMaxMigDeviceCount") or 0

    def _on_instances(self) -> list[tuple[int, int | None, str]] | None:
        """Return (pid, None, instance) of each process, "" where the instance is not told.

        The list of the whole GPU names the instances, but only to the privileged; else each
        instance is asked.
        """
        listed = self._listed()
        told = {process.pid: self._mig.uuid(process) for process in listed or ()}
        if not told or not all(told.values()):
            asked = self._mig.processes()
            if listed is None and asked is None:
                return None
            told |= asked or {}
        return [(pid, None, told[pid]) for pid in sorted(told)]

"""What a MIG GPU is divided into, and how busy each part is. Runs in the child.

A MIG device (`MIG-…`) is a compute instance in a GPU instance: the GPU instance has the memory,
several compute instances may share it. Neither counts energy, and the driver tells no utilization
for either: only GPM does, on Hopper and newer.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pynvml

nvml: Any = pynvml  # the binding ships no types

Call = Callable[..., Any]
"""Calls NVML by name; None if that was not answered, an error if the handle is broken."""

PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",  # clients of an MPS server
)
_SM_UTIL = 2
_LEAST_APART_S = 0.1
_PPM_PER_PERCENT = 10_000


class _Instance(NamedTuple):
    handle: Any
    uuid: str
    profile: str
    gpu_instance: int
    compute_instance: int
    gpu_slices: int
    compute_slices: int
    memory_mb: int


class _Sampled(NamedTuple):
    """GPM samples of one GPU instance; a metric speaks of the time between two of them."""

    older: Any
    newer: Any
    at: float


class Mig:
    """The instances of one GPU, asked anew at each look. `gpm`: whether to sample activity."""

    def __init__(self, call: Call, *, gpm: bool) -> None:
        self._call = call
        self._gpm = gpm
        self._instances: list[_Instance] = []
        self._samples: dict[tuple[int, frozenset[str]], _Sampled] = {}

    def look(self, gpu: Any, most: int) -> list[list[Any]]:
        """Return the instances as `driver_wire.Instance` has them; they may come and go."""
        found = (self._instance(gpu, index) for index in range(most))
        # An empty place, or an instance that is being taken down, answers nothing.
        self._instances = [instance for instance in found if instance is not None]
        return [
            [
                instance.uuid,
                instance.profile,
                instance.gpu_instance,
                instance.gpu_slices,
                instance.compute_slices,
                instance.memory_mb,
            ]
            for instance in self._instances
        ]

    def uuid(self, process: Any) -> str:
        """Return the instance that a process of the whole GPU's list is on, "" if not told."""
        at = (process.gpuInstanceId, process.computeInstanceId)
        for instance in self._instances:
            if (instance.gpu_instance, instance.compute_instance) == at:
                return instance.uuid
        return ""

    def processes(self) -> dict[int, str] | None:
        """Return the instance of each process by asking each one, None if none answers."""
        found: dict[int, str] = {}
        answered = not self._instances
        for instance in self._instances:
            for name in PROCESS_LISTS:
                listed = self._call(name, instance.handle)
                answered |= listed is not None
                found.update({process.pid: instance.uuid for process in listed or ()})
        return found if answered else None

    def activity(self, gpu: Any) -> dict[str, int]:
        """Return, in ppm, how busy the SMs of each instance were since the look before."""
        if not self._gpm or not self._supported(gpu):
            return {}
        parts: dict[int, set[str]] = {}
        for instance in self._instances:
            parts.setdefault(instance.gpu_instance, set()).add(instance.uuid)
        present = {(number, frozenset(uuids)) for number, uuids in parts.items()}
        for gone in self._samples.keys() - present:
            self._forget(self._samples.pop(gone))
        busy: dict[str, int] = {}
        for number, uuids in present:
            ppm = self._measure(gpu, number, uuids)
            if ppm is not None:
                busy.update(dict.fromkeys(uuids, ppm))
        return busy

    def _instance(self, gpu: Any, index: int) -> _Instance | None:
        handle = self._call("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index)
        if handle is None:
            return None
        uuid = self._call("nvmlDeviceGetUUID", handle)
        has = self._call("nvmlDeviceGetAttributes_v2", handle)
        name = self._call("nvmlDeviceGetName", handle) or ""
        number = self._call("nvmlDeviceGetGpuInstanceId", handle)
        inner = self._call("nvmlDeviceGetComputeInstanceId", handle)
        if None in (uuid, has, number, inner):
            return None
        gpu_slices = has.gpuInstanceSliceCount
        return _Instance(
            handle=handle,
            uuid=uuid,
            profile=name.rpartition("MIG ")[2],
            gpu_instance=number,
            compute_instance=inner,
            gpu_slices=gpu_slices,
            compute_slices=has.computeInstanceSliceCount or gpu_slices,
            memory_mb=has.memorySizeMB,
        )

    # -- GPM -----------------------------------------------------------------------------------

    def _supported(self, gpu: Any) -> bool:
        support = self._call("nvmlGpmQueryDeviceSupport", gpu)
        return support is not None and bool(support.isSupportedDevice)

    def _measure(self, gpu: Any, number: int, uuids: frozenset[str]) -> int | None:
        key = (number, uuids)
        sampled = self._samples.get(key)
        if sampled is None:
            older, newer = (self._call("nvmlGpmSampleAlloc") for _ in range(2))
            if older is None or newer is None:
                return None
            sampled = _Sampled(older, newer, at=float("-inf"))
        now = time.monotonic()
        if now - sampled.at <= _LEAST_APART_S:
            return None
        if self._call("nvmlGpmMigSampleGet", gpu, number, sampled.older) is None:
            self._samples.pop(key, None)
            self._forget(sampled)
            return None
        before, self._samples[key] = sampled.at, _Sampled(sampled.newer, sampled.older, now)
        return None if before == float("-inf") else self._metric(self._samples[key])

    def _metric(self, sampled: _Sampled) -> int | None:
        ask = nvml.c_nvmlGpmMetricsGet_t()
        ask.version = nvml.NVML_GPM_METRICS_GET_VERSION
        ask.numMetrics, ask.metrics[0].metricId = 1, _SM_UTIL
        ask.sample1, ask.sample2 = sampled.older, sampled.newer
        if self._call("nvmlGpmMetricsGet", ask) is None or ask.metrics[0].nvmlReturn:
            return None
        percent: float = ask.metrics[0].value
        return round(percent * _PPM_PER_PERCENT)

    def _forget(self, sampled: _Sampled) -> None:
        for sample in (sampled.older, sampled.newer):
            self._call("nvmlGpmSampleFree", sample)

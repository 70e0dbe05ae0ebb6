"""From the NVML child's words to meters, readings and gauges."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Method
from wattkeeper.model.microjoules import UJ_PER_MJ
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.sources.nvml_wire import Board, GpuAnswer, Slow

_PPM_PER_PERCENT = 10_000
_NS_PER_MS = 1_000_000
_ARCHITECTURES = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
    13: "rubin",
}
_EVENT_REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
}
_NOT_THROTTLED = frozenset({"sync_boost", "hw_slowdown"})
"""Left out of the sum: a boost group waits for its slowest; hw_slowdown covers two others."""


def meter_name(uuid: str) -> str:
    """Return the meter's name of a GPU."""
    return f"gpu/{uuid}"


def meter_spec(board: Board, ordinal: int, driver: str, load: str, *, mig: bool) -> MeterSpec:
    """Return the meter of a GPU. `ordinal`: its number in PCI order, as Slurm counts."""
    labels = {
        "gpu": str(ordinal),
        "uuid": board.uuid,
        "pci_bus_id": board.pci_bus_id,
        "model": board.model,
        "driver": driver,
        "vendor": "nvidia",
        "scope": "module" if board.module_scope else "gpu",
    }
    known = {
        "architecture": _ARCHITECTURES.get(board.architecture or 0, ""),
        "serial": board.serial,
        "board": board.board,
        "mig": "1" if mig else "",
        "minor": "" if board.minor is None else str(board.minor),
    }
    labels.update((key, value) for key, value in known.items() if value)
    return MeterSpec(
        info=MeterInfo(meter_name(board.uuid), Component.GPU, "nvml", labels),
        method=Method.COUNTER if board.counter else Method.INTEGRATED,
        limit_mw=board.max_limit_mw,
        load=load,
    )


def reading(
    answer: GpuAnswer, uuid: str, slow: Slow | None, throttle_ns: Mapping[str, int]
) -> Reading:
    """Return the reading of one tick with the latest slow values and throttle counters."""
    throttled = [ns for reason, ns in throttle_ns.items() if reason not in _NOT_THROTTLED]
    return Reading(
        meter=meter_name(uuid),
        boot_ns=answer.boot_ns,
        energy_uj=_times(answer.energy_mj, UJ_PER_MJ),
        power_mw=answer.power_mw,
        power_limit_mw=slow.limit_mw if slow else None,
        temperature_mc=_times(answer.temperature_c, 1000),
        utilization_ppm=_times(answer.gpu_percent, _PPM_PER_PERCENT),
        memory_used_bytes=slow.memory_used if slow else None,
        clock_khz=_times(answer.sm_mhz, 1000),
        throttled_ms=sum(throttled) // _NS_PER_MS if throttled else None,
        gauges=tuple(_gauges(answer, uuid, slow, throttle_ns)),
    )


def add_event_reasons(throttle_ns: dict[str, int], reasons: int, elapsed_ns: int) -> None:
    """Let a tick's event-reason bits stand for the time since the tick before.

    For GPUs without throttle counters: right to one sampling interval per event.
    """
    for bit, reason in _EVENT_REASONS.items():
        throttle_ns[reason] = throttle_ns.get(reason, 0) + (elapsed_ns if reasons & bit else 0)


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


@lru_cache(maxsize=1024)
def _labels(uuid: str, key: str, value: str) -> tuple[tuple[str, str], ...]:
    return (("uuid", uuid), (key, value)) if key else (("uuid", uuid),)


def _gauges(
    answer: GpuAnswer, uuid: str, slow: Slow | None, throttle_ns: Mapping[str, int]
) -> Iterator[Gauge]:
    rows: list[tuple[str, str, str, int | None, float]] = [
        ("gpu_temperature_celsius", "sensor", "gpu", answer.temperature_c, 1),
        ("gpu_temperature_celsius", "sensor", "memory", answer.memory_temperature_c, 1),
        ("gpu_utilization_ratio", "engine", "gpu", answer.gpu_percent, 100),
        ("gpu_utilization_ratio", "engine", "memory", answer.memory_percent, 100),
        ("gpu_clock_hertz", "clock", "sm", answer.sm_mhz, 1e-6),
        ("gpu_clock_hertz", "clock", "memory", answer.memory_mhz, 1e-6),
        ("gpu_clock_hertz", "clock", "graphics", answer.graphics_mhz, 1e-6),
        ("gpu_power_average_watts", "", "", answer.average_mw, 1000),
    ]
    if slow is not None:
        rows += [
            ("gpu_temperature_celsius", "sensor", "margin", slow.margin_c, 1),
            ("gpu_utilization_ratio", "engine", "encoder", slow.encoder_percent, 100),
            ("gpu_utilization_ratio", "engine", "decoder", slow.decoder_percent, 100),
            ("gpu_memory_total_bytes", "", "", slow.memory_total, 1),
        ]
    for name, key, label, value, divisor in rows:
        if value is not None:
            yield Gauge(name, _labels(uuid, key, label), value / divisor)
    for reason, ns in throttle_ns.items():
        yield Gauge("gpu_throttle_seconds_total", _labels(uuid, "reason", reason), ns / 1e9)
    for instance in (slow.mig or ()) if slow else ():
        labels = (
            *_labels(uuid, "mig_uuid", instance.uuid),
            ("profile", instance.profile),
            ("slices", str(instance.gpu_slices)),
        )
        yield Gauge("gpu_mig_info", labels, 1.0)

"""From the words of a driver's child to meters, readings and gauges."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Method
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.sources.driver_wire import Board, GpuAnswer, Slow

_PPM_PER_PERCENT = 10_000
_NS_PER_MS = 1_000_000
_NOT_THROTTLED = frozenset({"sync_boost", "hw_slowdown"})
"""Left out of the sum: a boost group waits for its slowest; hw_slowdown covers two others."""


def meter_name(uuid: str) -> str:
    """Return the meter's name of a GPU."""
    return f"gpu/{uuid}"


def meter_info(board: Board, labels: Mapping[str, str], source: str) -> MeterInfo:
    """Return who the meter of a GPU is. `labels`: what its source knows besides, "" if unknown."""
    known = {
        "uuid": board.uuid,
        "pci_bus_id": board.pci_bus_id,
        "model": board.model,
        "scope": "module" if board.module_scope else "gpu",
        "architecture": board.architecture,
        "serial": board.serial,
        "board": board.board,
        "dies": ",".join(board.dies),
        "minor": "" if board.minor is None else str(board.minor),
        **labels,
    }
    always = ("uuid", "pci_bus_id", "model", "driver")
    kept = {key: value for key, value in known.items() if value or key in always}
    return MeterInfo(meter_name(board.uuid), Component.GPU, source, kept)


def meter_spec(board: Board, info: MeterInfo, load: str) -> MeterSpec:
    """Return the meter of a GPU under this load of the driver."""
    return MeterSpec(
        info=info,
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
        energy_uj=answer.energy_uj,
        power_mw=answer.power_mw,
        power_limit_mw=slow.limit_mw if slow else None,
        temperature_mc=_times(answer.celsius.get("gpu"), 1000),
        utilization_ppm=_times(answer.percent.get("gpu"), _PPM_PER_PERCENT),
        memory_used_bytes=slow.memory_used if slow else None,
        clock_khz=_times(answer.mhz.get("sm"), 1000),
        throttled_ms=sum(throttled) // _NS_PER_MS if throttled else None,
        gauges=tuple(_gauges(answer, uuid, slow, throttle_ns)),
    )


def add_throttled(
    throttle_ns: dict[str, int], throttled: Mapping[str, bool], elapsed_ns: int
) -> None:
    """Let what holds at a tick stand for the time since the tick before.

    For GPUs without throttle counters: right to one sampling interval per event.
    """
    for reason, holds in throttled.items():
        throttle_ns[reason] = throttle_ns.get(reason, 0) + (elapsed_ns if holds else 0)


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


@lru_cache(maxsize=1024)
def _labels(uuid: str, key: str, value: str) -> tuple[tuple[str, str], ...]:
    return (("uuid", uuid), (key, value)) if key else (("uuid", uuid),)


def _gauges(
    answer: GpuAnswer, uuid: str, slow: Slow | None, throttle_ns: Mapping[str, int]
) -> Iterator[Gauge]:
    families: list[tuple[str, str, Mapping[str, int], float]] = [
        ("gpu_temperature_celsius", "sensor", answer.celsius, 1),
        ("gpu_utilization_ratio", "engine", answer.percent, 100),
        ("gpu_clock_hertz", "clock", answer.mhz, 1e-6),
    ]
    if slow is not None:
        families += [
            ("gpu_temperature_celsius", "sensor", slow.celsius, 1),
            ("gpu_utilization_ratio", "engine", slow.percent, 100),
        ]
    families.append(("gpu_throttle_seconds_total", "reason", throttle_ns, 1e9))
    for name, key, values, divisor in families:
        for label, value in values.items():
            yield Gauge(name, _labels(uuid, key, label), value / divisor)
    if answer.average_mw is not None:
        yield Gauge("gpu_power_average_watts", _labels(uuid, "", ""), answer.average_mw / 1000)
    if slow is None:
        return
    if slow.memory_total is not None:
        yield Gauge("gpu_memory_total_bytes", _labels(uuid, "", ""), slow.memory_total)
    for instance in slow.instances or ():
        if instance.profile:
            labels = (
                *_labels(uuid, "mig_uuid", instance.uuid),
                ("profile", instance.profile),
                ("slices", str(instance.gpu_slices)),
            )
            yield Gauge("gpu_mig_info", labels, 1.0)

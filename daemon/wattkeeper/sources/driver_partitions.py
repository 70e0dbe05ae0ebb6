"""From the layout of a divided GPU to the parts of it that its instances have."""

from collections.abc import Iterator

from wattkeeper.model.meter import Partition
from wattkeeper.sources.driver_wire import Instance, Slow

_PPM = 1_000_000
_MEMORY_SLICES = {7: 8}
"""GPUs of 7 compute slices have 8 memory slices; the others (A30: 4) as many as compute slices."""


def partitions(slow: Slow, meter: str) -> Iterator[Partition]:
    """Yield the instances of a GPU as parts of its meter; nothing where it is not divided."""
    for instance in slow.instances or ():
        yield Partition(
            instance.uuid,
            meter,
            instance.gpu_instance,
            _memory_ppm(instance, slow),
            _PPM * instance.compute_slices // max(1, slow.slices, instance.compute_slices),
        )


def _memory_ppm(instance: Instance, slow: Slow) -> int:
    """Return its part of the memory in whole slices, divided among those of its GPU instance.

    The driver tells megabytes, less some for itself, so that a whole GPU in one instance would be
    99 %. What is far from a whole slice is taken as it is.
    """
    if not slow.memory_total:
        return _PPM * instance.compute_slices // max(1, slow.slices, instance.compute_slices)
    slices = _MEMORY_SLICES.get(slow.slices, slow.slices)
    part = min(1.0, instance.memory_mb * (1 << 20) / slow.memory_total)
    whole = round(part * slices)
    if whole and abs(part * slices - whole) < 1 / 4:
        part = whole / slices
    return round(_PPM * part) * instance.compute_slices // max(1, instance.gpu_slices)

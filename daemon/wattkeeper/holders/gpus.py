"""GPUs and parts of GPUs as a scheduler counts them, and what holding them claims."""

from collections.abc import Iterable, Mapping

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.model.meter import Partition

Device = str | Partition
"""What a scheduler hands out: a whole GPU, by its meter's name, or a MIG instance."""
Devices = Mapping[int, Device]
"""The devices of the node by Slurm's index; empty while they are not known."""

_WHOLE_PPM = 1_000_000
_MOST_INDEX = 4096


def indices(text: str) -> tuple[int, ...]:
    """Return the indices in a list such as `0,1,3`, sorted; SLURM_JOB_GPUS is never a range.

    Raises:
        ValueError: it is no such list.

    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) < _MOST_INDEX for part in parts):
        raise ValueError(f"{text[:80]!r} is no list of indices such as 0,1,2")
    return tuple(sorted({int(part) for part in parts}))


def by_uuid(uuid: str, partitions: Mapping[str, Partition]) -> Device:
    """Return the device of a GPU's or MIG instance's UUID."""
    return partitions.get(uuid, f"gpu/{uuid}")


def meter(device: Device) -> str:
    """Return the meter that counts a device's energy."""
    return device.meter if isinstance(device, Partition) else device


def claims(devices: Iterable[Device], key: HolderKey, *, shared: bool) -> dict[str, Claim]:
    """Return one allocated claim per meter; several instances of one GPU add up.

    A shared device reserves nothing: others hold it at the same time.
    """
    found: dict[str, Claim] = {}
    for device in dict.fromkeys(devices):
        name = meter(device)
        if isinstance(device, Partition):
            before = found.get(name)
            memory_ppm = device.memory_ppm + ((before.reserved_ppm or 0) if before else 0)
            compute_ppm = device.compute_ppm + ((before.compute_ppm or 0) if before else 0)
            found[name] = Claim(
                key,
                reserved_ppm=min(_WHOLE_PPM, memory_ppm),
                compute_ppm=min(_WHOLE_PPM, compute_ppm),
                allocated=True,
                partitions=(*(before.partitions if before else ()), device.uuid),
            )
        else:
            found[name] = Claim(key, reserved_ppm=None if shared else _WHOLE_PPM, allocated=True)
    return found


def whole(claim: Claim) -> bool:
    """Tell whether a claim leaves nothing of the device to others."""
    return claim.allocated and claim.reserved_ppm == _WHOLE_PPM and not claim.partitions

"""From processes on one GPU to claims on it: of the whole, or of its MIG instances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.model.meter import Partition
from wattkeeper.model.microjoules import share

_WHOLE_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A process on a GPU: whose it is (None: the machine's own), how busy, on which instance.

    `server`: it is an MPS server, which works for its clients and for nobody else.
    """

    holder: HolderKey | None
    sm_ppm: int | None
    partition: str | None = None
    server: bool = False


@dataclass(slots=True)
class _Sum:
    """What one holder's processes on one GPU come to; `weight` None: not known."""

    weight: int | None = 0
    memory_ppm: int = 0
    compute_ppm: int = 0
    partitions: list[str] = field(default_factory=list)

    def add_weight(self, weight: int | None) -> None:
        """Add a part; a sum with an unknown part is unknown."""
        both = self.weight is not None and weight is not None
        self.weight = (self.weight or 0) + (weight or 0) if both else None


def claims_on(seen: Sequence[Seen], partitions: Mapping[str, Partition]) -> tuple[Claim, ...]:
    """Return a claim per holder.

    On the whole GPU its weight is the SM time of its processes. On MIG instances it is the part of
    the compute units that they have, times how busy they are where that is known of all of them;
    memory and compute of the instances are reserved. Several on one instance share it alike.
    """
    sums: dict[HolderKey | None, _Sum] = {}
    by_instance: dict[str, list[Seen]] = {}
    for process in _without_servers(seen):
        if process.partition is not None and process.partition in partitions:
            by_instance.setdefault(process.partition, []).append(process)
        else:
            sums.setdefault(process.holder, _Sum()).add_weight(process.sm_ppm)
    metered = all(p.sm_ppm is not None for found in by_instance.values() for p in found)
    for uuid, found in sorted(by_instance.items()):
        busy_ppm = max(p.sm_ppm or 0 for p in found) if metered else _WHOLE_PPM
        _add_instance(sums, partitions[uuid], busy_ppm, found)
    return tuple(
        Claim(
            holder, total.weight, total.memory_ppm, total.compute_ppm, False, (*total.partitions,)
        )
        if total.partitions
        else Claim(holder, total.weight)
        for holder, total in sums.items()
    )


def _add_instance(
    sums: dict[HolderKey | None, _Sum], part: Partition, busy_ppm: int, found: Sequence[Seen]
) -> None:
    # The machine's own (a monitor) does not share with a job whose instance it looks at.
    jobs = dict.fromkeys(process.holder for process in found if process.holder is not None)
    holders: list[HolderKey | None] = [*jobs] or [None]
    weight = part.compute_ppm * busy_ppm // _WHOLE_PPM
    even = [1] * len(holders)
    rows = zip(
        holders,
        share(part.memory_ppm, even),
        share(part.compute_ppm, even),
        share(weight, even),
        strict=True,
    )
    for holder, memory, compute, own in rows:
        total = sums.setdefault(holder, _Sum())
        total.memory_ppm += memory
        total.compute_ppm += compute
        total.add_weight(own)
        total.partitions.append(part.uuid)


def _without_servers(seen: Sequence[Seen]) -> Sequence[Seen]:
    """Leave out MPS servers where their clients are listed.

    Where all SM time stands with the server, it is not known which client used it.
    """
    servers = [process for process in seen if process.server]
    clients = [process for process in seen if not process.server]
    if not servers or not clients:
        return seen
    if any(server.sm_ppm for server in servers) and not any(c.sm_ppm for c in clients):
        return [Seen(client.holder, None, client.partition) for client in clients]
    return clients

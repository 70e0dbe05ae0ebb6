"""From processor time to claims: on all sockets together, and on each one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.model.microjoules import share

CPUS = "cpu/*"
_WHOLE_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """A job's processor time since the last look, in µs; None if it is not known.

    `allowed`: the processors that its cpuset lets it use, None if none says so. `by_cpu_us`: the
    time by processor, where the kernel tells it.
    """

    holder: HolderKey
    us: int | None
    allowed: frozenset[int] | None = None
    by_cpu_us: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Processors:
    """The online processors with their sockets, and what each spent since the last look, in µs.

    `socket` is empty where it is not known which processor sits where.
    """

    online: frozenset[int]
    socket: Mapping[int, str]
    busy_us: Mapping[int, int]


def cpu_claims(
    jobs: Sequence[Spent], machine_us: int | None, cpus: Processors
) -> dict[str, tuple[Claim, ...]]:
    """Return the claims under `cpu/*`, and under `cpu/<socket>/*` where there are several sockets.

    What no job spent is the machine's own. A job has no claim on a socket that its cpuset does
    not touch.
    """
    claims = {CPUS: _claims(jobs, machine_us, cpus.online)}
    by_socket: dict[str, set[int]] = {}
    for cpu in cpus.online & cpus.socket.keys():
        by_socket.setdefault(cpus.socket[cpu], set()).add(cpu)
    if len(by_socket) < 2:
        return claims
    names = sorted(by_socket)
    places = [frozenset(by_socket[name]) for name in names]
    spent = [_over(job.us, _weights(job, places)) for job in jobs]
    busy = [sum(cpus.busy_us.get(cpu, 0) for cpu in place) for place in places]
    machine = _over(machine_us, busy if any(busy) else [len(place) for place in places])
    for i, (name, place) in enumerate(zip(names, places, strict=True)):
        here = [
            Spent(job.holder, us[i], job.allowed)
            for job, us in zip(jobs, spent, strict=True)
            if job.allowed is None or job.allowed & place
        ]
        claims[f"cpu/{name}/*"] = _claims(here, machine[i], place, cpus.online)
    return claims


def _weights(job: Spent, places: Sequence[frozenset[int]]) -> list[int]:
    """Return by what a job's time is laid over sockets: where it was spent, else where it may."""
    known = [sum(job.by_cpu_us.get(cpu, 0) for cpu in place) for place in places]
    if any(known):
        return known
    return [len(place if job.allowed is None else job.allowed & place) for place in places]


def _over(us: int | None, weights: Sequence[int]) -> Sequence[int | None]:
    if us is None or not any(weights):
        return [us and 0] * len(weights)
    return share(us, weights)


def _claims(
    jobs: Sequence[Spent],
    machine_us: int | None,
    place: frozenset[int],
    online: frozenset[int] | None = None,
) -> tuple[Claim, ...]:
    claims = [
        Claim(job.holder, job.us, _reserved_ppm(job.allowed, place, online or place))
        for job in jobs
    ]
    known = [job.us for job in jobs if job.us is not None]
    own = None
    if machine_us is not None and len(known) == len(jobs):
        own = max(0, machine_us - sum(known))
    return (*claims, Claim(None, own))


def _reserved_ppm(
    allowed: frozenset[int] | None, place: frozenset[int], online: frozenset[int]
) -> int | None:
    """Return the part of a place that a cpuset narrower than the machine gives, else None."""
    if not allowed or not place or online <= allowed:
        return None
    return len(allowed & place) * _WHOLE_PPM // len(place)
